// What the stream layer is handed: broadcasts that are committed, in position order.
//
// Positions are dense (1, 2, 3 …, no hole) and follow commit order, so "everything after N" is one
// comparison and a hole always means "not here yet". Ephemeral broadcasts have a dense line of
// their own; each carries, as its position, the last durable position before it. Plain values; no
// thread-safety of their own.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway::sse {

struct Broadcast {
  std::uint64_t position = 0;  // ephemeral: the last durable position before it
  std::string channel;
  std::string event_type;  // empty: a frame without an `event:` line
  std::string data;        // the text to send; any line breaks become several `data:` lines
  bool ephemeral = false;

  bool operator==(const Broadcast&) const = default;
};

// One committed transaction's broadcasts, in order. The durable ones have the positions
// base_position + 1, + 2, …; the ephemeral ones the numbers base_ephemeral + 1, ….
struct BroadcastBatch {
  std::uint64_t base_position = 0;
  std::uint64_t base_ephemeral = 0;
  std::vector<Broadcast> broadcasts;
  // When this process was told of the COMMIT; zero for what another process committed.
  std::chrono::steady_clock::time_point committed{};
  bool by_name_only = false;  // not for those who read the channels by a pattern
};

// Where the line of positions stands. `epoch` names the line itself: ids of another epoch (another
// database, a restored backup) mean nothing here.
struct Head {
  std::string epoch;           // 1 to 16 characters [a-z0-9]
  std::uint64_t position = 0;  // the last durable position given out
  std::uint64_t ephemeral = 0;

  bool operator==(const Head&) const = default;
};

}  // namespace spillway::sse
