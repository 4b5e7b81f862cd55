// One line of the log: a message for people, and fields for machines. Whatever they hold becomes
// one line of valid UTF-8, as text or as JSON, and shows no secret. Pure and thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "spillway/event.hpp"

namespace spillway {

enum class LogLevel { trace, debug, info, warn, error };
[[nodiscard]] std::string_view to_string(LogLevel level);

using LogFields = nlohmann::ordered_json;  // an object, or null for none

struct LogLine {
  LogLevel level = LogLevel::warn;
  std::string message;
  LogFields fields = nullptr;

  // What goes wrong is most of what is said.
  LogLine(std::string text)  // NOLINT(google-explicit-constructor)
      : message(std::move(text)) {}
  LogLine(const char* text) : message(text) {}  // NOLINT(google-explicit-constructor)
  LogLine(LogLevel l, std::string text, LogFields f = nullptr)
      : level(l), message(std::move(text)), fields(std::move(f)) {}
};

using LogFunction = std::function<void(const LogLine&)>;

// event_id, type, stream, correlation_id and attempt.
[[nodiscard]] LogFields fields_of(const Event& event);

// "2026-01-31T12:00:00.123+01:00 warn the message key=value key=\"a value\"\n". What cannot stand
// in a line is written as in JSON (\n, \u001b).
[[nodiscard]] std::string to_text(const LogLine& line, std::chrono::system_clock::time_point now);

// {"time","level","message", and the fields}: one line. A field of one of these names is left out.
[[nodiscard]] std::string to_json_line(const LogLine& line,
                                       std::chrono::system_clock::time_point now);

// Without passwords of connection strings and URLs, and without what URLs ask in their query.
[[nodiscard]] std::string without_secrets(std::string text);

}  // namespace spillway
