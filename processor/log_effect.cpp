#include "processor/log_effect.hpp"

#include <optional>

namespace spillway {
namespace {

LogLevel level_of(const std::string& name) {
  for (const LogLevel level : {LogLevel::trace, LogLevel::debug, LogLevel::info, LogLevel::warn})
    if (name == to_string(level)) return level;
  return LogLevel::error;
}

}  // namespace

LogOrigin origin_of(const Event& event) {
  return {event.id, event.type, event.correlation_id};
}

LogLine line_of(const LogOrigin& origin, const Log& log) {
  LogFields fields{{"event_id", origin.event_id},
                   {"type", origin.type},
                   {"correlation_id", origin.correlation_id}};
  // Of their own, so that they cannot stand for ours.
  if (!log.fields.empty()) fields["fields"] = log.fields;
  return {level_of(log.level), log.message, std::move(fields)};
}

}  // namespace spillway
