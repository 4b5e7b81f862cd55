// A Log effect as a line of the log. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "processor/log_line.hpp"
#include "spillway/effect.hpp"

namespace spillway {

// The event whose handler asked for it.
struct LogOrigin {
  std::int64_t event_id = 0;
  std::string type;
  std::string correlation_id;
};
[[nodiscard]] LogOrigin origin_of(const Event& event);

[[nodiscard]] LogLine line_of(const LogOrigin& origin, const Log& log);

}  // namespace spillway
