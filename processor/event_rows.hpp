// Events of the log as rows: the columns to ask for, and how they are read. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "effects/sql.hpp"
#include "spillway/event.hpp"

// What event_of() reads, as the first columns of a SELECT from spillway.events e.
#define SPILLWAY_EVENT_COLUMNS SPILLWAY_EVENT_COLUMNS_AND("e.payload")
#define SPILLWAY_EVENT_COLUMNS_AND(payload) \
  "e.id, e.type, e.stream, " payload        \
  ", e.context, e.correlation_id, e.causation_id, e.created_at, e.max_attempts"

namespace spillway {

inline constexpr std::size_t event_columns = 9;
inline constexpr std::size_t payload_column = 3;

struct ClaimedEvent {
  Event event;  // payload and context are parsed
  int lane = 0;
  std::uint64_t seq = 0;  // 0: claimed from `waiting`
  std::string row;        // where the queue row is (ctid)
  int attempts = 0;       // failed ones so far
  std::optional<int> max_attempts;
  bool held = false;       // another event of its stream waits: it must not run
  bool ranked = false;     // its row is in `ranked`, not in `queue`
  bool discarded = false;  // a dead letter that was given up: out of the line, not handled
  bool suspect = false;    // it may have ended a process: it must run alone
  std::string problem;     // payload or context that no handler can be given; else empty
};

// The column behind the event's own is the lane.
[[nodiscard]] ClaimedEvent event_of(const Rows& rows, std::size_t row);

}  // namespace spillway
