// The JSON form of effects: a list of one-key objects, e.g.
//   [{"Insert":{"table":"t","data":{"a":1}}},
//    {"SSEBroadcast":{"channel":"C:1","event_type":"E","data":{},"ephemeral":false}}]
// Pure and thread-safe.
#pragma once

#include <string_view>

#include "spillway/effect.hpp"

namespace spillway {

// Throws EffectError naming the effect's index and the field; unknown kinds and fields are errors.
[[nodiscard]] Effects effects_from_json(const json& list);

// The same shape back; fields at their default are left out.
[[nodiscard]] json to_json(const Effect& effect);
[[nodiscard]] json to_json(const Effects& effects);

// "Insert", "SSEBroadcast", …
[[nodiscard]] std::string_view kind_of(const Effect& effect);

}  // namespace spillway
