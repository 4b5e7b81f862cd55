// The JSON form of what a handler returns: a list of effects, {"effects": […], "response": any}, or
// {"error": "why"}. Pure and thread-safe.
#pragma once

#include "spillway/registry.hpp"

namespace spillway {

// Throws EffectError for anything else, unknown keys included.
[[nodiscard]] Result result_from_json(json value);

// The shortest of the forms that says it all.
[[nodiscard]] json to_json(const Result& result);

}  // namespace spillway
