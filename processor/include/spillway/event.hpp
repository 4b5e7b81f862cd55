// An event as a handler sees it: a row of spillway.events, read-only.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace spillway {

using json = nlohmann::json;

struct Event {
  std::int64_t id = 0;
  std::string type;
  std::optional<std::string> stream;  // ordering key, none when no order was asked for
  json payload;
  json context;                // the snapshot the inserter gave along, {} by default
  std::string correlation_id;  // uuid
  std::optional<std::int64_t> causation_id;
  int attempt = 1;         // 1 on the first try
  std::string created_at;  // ISO 8601 in UTC
  json data;               // rows of the declared read, an array; null when nothing is read
};

}  // namespace spillway
