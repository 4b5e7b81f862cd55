#include "processor/log_effect.hpp"

#include <spdlog/spdlog.h>

#include <string>

namespace spillway {

void write_log_effect(std::int64_t event_id, const Log& log) {
  const auto level = spdlog::level::from_str(log.level);
  if (!spdlog::should_log(level)) return;
  // One line each, whatever a payload brought along.
  std::string text = json(log.message).dump();
  if (!log.fields.empty()) text += " " + log.fields.dump();
  spdlog::log(level, "event {}: {}", event_id, text);
}

}  // namespace spillway
