// Effects: what a handler wants done, as plain comparable values. Nothing here does anything; the
// worker carries the list out in the transaction that completes the event.
//
// Shapes, defaults and semantics are those of docs/effects.md. No thread-safety of their own.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

namespace spillway {

using json = nlohmann::json;

enum class OnConflict { error, ignore };

// Rows into a table. `data` is an object (one row) or an array of objects; keys are columns,
// columns that are not named get their default. `table` is `name` or `schema.name`, taken as
// written (no case folding); `spillway.*` and system schemas are refused.
struct Insert {
  std::string table;
  json data;
  OnConflict on_conflict = OnConflict::error;

  bool operator==(const Insert&) const = default;
};

// A frame to everybody who listens on `channel`. A string in `data` travels as its text (each line
// one `data:` line), anything else as compact JSON. Ephemeral: live only, never replayed.
struct SSEBroadcast {
  std::string channel;     // 1 to 255 bytes, no control characters
  std::string event_type;  // the frame's `event:`; empty for none
  json data;
  bool ephemeral = false;

  bool operator==(const SSEBroadcast&) const = default;
};

using Effect = std::variant<Insert, SSEBroadcast>;
using Effects = std::vector<Effect>;

}  // namespace spillway
