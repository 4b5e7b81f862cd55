// JSON text of an effect's field. Pure and thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "effects/effect_error.hpp"
#include "spillway/effect.hpp"

namespace spillway {

// What is not valid UTF-8 is the handler's mistake: EffectError.
inline std::string serialize(const json& value, std::size_t index, const char* kind,
                             const char* field) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    throw EffectError(index, kind, field, "contains text that is not valid UTF-8");
  }
}

}  // namespace spillway
