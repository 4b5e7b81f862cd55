// JSON text of an effect's field. Pure and thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "effects/effect_error.hpp"
#include "spillway/effect.hpp"

namespace spillway {

// Serializing recurses, and so does PostgreSQL; a value that is deeper must not end the process.
inline constexpr int deepest_json = 1000;

[[nodiscard]] inline bool is_deeper_than(const json& value, int levels) {
  if (!value.is_structured()) return false;
  if (levels == 0) return true;
  for (const json& member : value)
    if (member.is_structured() && is_deeper_than(member, levels - 1)) return true;
  return false;
}

// What is not valid UTF-8, or too deep, is the handler's mistake: EffectError.
inline std::string serialize(const json& value, std::size_t index, const char* kind,
                             const char* field) {
  if (is_deeper_than(value, deepest_json))
    throw EffectError(index, kind, field, "is nested more than 1000 levels deep");
  try {
    return value.dump();
  } catch (const json::exception&) {
    throw EffectError(index, kind, field, "contains text that is not valid UTF-8");
  }
}

}  // namespace spillway
