// The event as handlers in JSON see it, and back. Pure and thread-safe.
#pragma once

#include "spillway/event.hpp"

namespace spillway {

// Without `data`, which is not the event's own.
[[nodiscard]] json to_json(const Event& event);

// An event that somebody wrote down: `type` is required, what else is left out gets a fixed value,
// so that the same text always is the same event. `data` are the rows of its declared read. Throws
// std::invalid_argument naming the key that is wrong or unknown.
[[nodiscard]] Event event_from_json(const json& value);

}  // namespace spillway
