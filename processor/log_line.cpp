#include "processor/log_line.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <utility>

#include "processor/pg_connection.hpp"

namespace spillway {
namespace {

constexpr std::size_t longest_message = 8192;  // bytes
constexpr std::size_t longest_field = 4096;

// Quotes and all; bytes that are not UTF-8 become U+FFFD.
std::string dumped(const LogFields& value) {
  return value.dump(-1, ' ', false, LogFields::error_handler_t::replace);
}

// Looking for secrets takes time, so what will be cut anyway is not looked at; but no word is cut
// before that, because half a password is one too.
std::string shown(std::string_view whole, std::size_t most) {
  std::string_view looked_at = whole;
  if (whole.size() > 2 * most) {
    const std::size_t space = whole.find_last_of(" \t\n", 2 * most);
    looked_at = whole.substr(0, space != std::string_view::npos && space > most ? space : most);
  }
  const std::size_t left_out = whole.size() - looked_at.size();
  std::string text = without_secrets(std::string(looked_at));
  if (left_out == 0 && text.size() <= most) return text;
  const std::size_t kept = std::min(text.size(), most);
  const std::size_t more = left_out + text.size() - kept;
  text.resize(kept);
  return text + "… (" + std::to_string(more) + " bytes more)";
}

LogFields shown(const LogFields& value) {
  if (value.is_string()) return shown(value.get_ref<const std::string&>(), longest_field);
  if (!value.is_structured()) return value;
  LogFields clean = value.is_array() ? LogFields::array() : LogFields::object();
  if (value.is_array()) {
    for (const auto& each : value) clean.push_back(shown(each));
  } else {
    for (const auto& [name, each] : value.items()) clean[name] = shown(each);
  }
  std::string text = dumped(clean);
  if (text.size() <= longest_field) return clean;
  return shown(text, longest_field);
}

// RFC 3339, in the local zone.
std::string time_text(std::chrono::system_clock::time_point now) {
  const auto since = std::chrono::floor<std::chrono::milliseconds>(now).time_since_epoch();
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(since).count();
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  const long offset = parts.tm_gmtoff / 60;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%s.%03d%c%02ld:%02ld", date.data(),
                static_cast<int>(since.count() % 1000), offset < 0 ? '-' : '+',
                std::abs(offset) / 60, std::abs(offset) % 60);
  return text.data();
}

bool is_plain(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\';
  });
}

// The text of a JSON string without its quotes, and with its own quotes as they were.
std::string on_one_line(const std::string& text) {
  const std::string quoted = dumped(text);
  std::string plain;
  for (std::size_t i = 1; i + 1 < quoted.size(); ++i) {
    if (quoted[i] == '\\' && (quoted[i + 1] == '"' || quoted[i + 1] == '\\')) ++i;
    plain += quoted[i];
    if (static_cast<unsigned char>(plain.back()) == 0x7f)
      plain.replace(plain.size() - 1, 1, "\\u007f");
  }
  return plain;
}

}  // namespace

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return "trace";
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warn:
      return "warn";
    case LogLevel::error:
      break;
  }
  return "error";
}

LogFields fields_of(const Event& event) {
  LogFields fields{{"event_id", event.id}, {"type", event.type}};
  if (event.stream) fields["stream"] = *event.stream;
  fields["correlation_id"] = event.correlation_id;
  fields["attempt"] = event.attempt;
  return fields;
}

std::string to_text(const LogLine& line, std::chrono::system_clock::time_point now) {
  std::string text = time_text(now) + " " + std::string(to_string(line.level)) + " " +
                     on_one_line(shown(line.message, longest_message));
  if (line.fields.is_object())
    for (const auto& [name, value] : line.fields.items()) {
      const LogFields field = shown(value);
      const bool bare = field.is_string() && is_plain(field.get_ref<const std::string&>());
      text += " " + on_one_line(name) + "=" + (bare ? field.get<std::string>() : dumped(field));
    }
  return text + "\n";
}

std::string to_json_line(const LogLine& line, std::chrono::system_clock::time_point now) {
  LogFields object{{"time", time_text(now)},
                   {"level", to_string(line.level)},
                   {"message", shown(line.message, longest_message)}};
  if (line.fields.is_object())
    for (const auto& [name, value] : line.fields.items())
      if (!object.contains(name)) object[name] = shown(value);
  return dumped(object) + "\n";
}

std::string without_secrets(std::string text) {
  const bool address = text.find("://") != std::string::npos;
  constexpr std::string_view word = "password";
  const bool password = std::search(text.begin(), text.end(), word.begin(), word.end(),
                                    [](char a, char b) { return (a | 0x20) == b; }) != text.end();
  if (!address && !password) return text;
  for (std::size_t at = text.find("://"); at != std::string::npos; at = text.find("://", at)) {
    at += 3;
    std::size_t end = text.find_first_of(" \t\r\n\"'<>", at);
    end = std::min(end, text.size());
    const std::size_t path = std::min(text.find_first_of("/?#", at), end);
    const std::size_t user_end = text.rfind('@', path);
    if (user_end != std::string::npos && user_end >= at && user_end < path) {
      const std::size_t colon = text.find(':', at);
      // A user's name alone is no secret; a database's may stay, for people to see whose it is.
      if (colon < user_end) {
        text.replace(colon + 1, user_end - colon - 1, "***");
        end = std::min(text.find_first_of(" \t\r\n\"'<>", at), text.size());
      }
    }
    const bool of_the_web = at >= 7 && (text.compare(at - 7, 7, "http://") == 0 ||
                                        (at >= 8 && text.compare(at - 8, 8, "https://") == 0));
    if (const std::size_t query = text.find('?', at); of_the_web && query < end)
      text.replace(query + 1, end - query - 1, "…");
  }
  return hide_password(std::move(text));
}

}  // namespace spillway
