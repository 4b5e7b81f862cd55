// A Log effect as a line of this process's log. Thread-safe.
#pragma once

#include <cstdint>

#include "spillway/effect.hpp"

namespace spillway {

void write_log_effect(std::int64_t event_id, const Log& log);

}  // namespace spillway
