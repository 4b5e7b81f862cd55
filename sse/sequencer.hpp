// Puts committed batches in the order of their positions: pure bookkeeping, no threads, no I/O.
//
// A batch is ready when it begins where the line stands, in durable positions and in ephemeral
// numbers alike; what is known already is cut off its front; what lies ahead of a hole is parked.
// Parked batches are capped in bytes: those farthest ahead go first, because the hole is read from
// the database from its near end. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "sse/broadcast.hpp"

namespace spillway::sse {

class Sequencer {
 public:
  struct Outcome {
    std::vector<BroadcastBatch> ready;  // in order; nothing known among them
    bool parked = false;                // what was offered lies ahead of a hole
  };

  explicit Sequencer(std::size_t parked_bytes) : parked_cap_(parked_bytes) {}

  // Another epoch: forgets everything and stands at `head`. The same: takes over the ephemeral
  // number only. Returns the parked batches that became ready.
  std::vector<BroadcastBatch> start(const Head& head);
  [[nodiscard]] bool started() const { return !head_.epoch.empty(); }

  // Before start() everything is parked.
  Outcome offer(BroadcastBatch batch);
  std::vector<BroadcastBatch> skip(std::uint64_t position);
  std::vector<BroadcastBatch> skip_ephemeral(std::uint64_t number);

  [[nodiscard]] const Head& head() const { return head_; }
  // Something lies ahead of a hole, parked or dropped for want of room.
  [[nodiscard]] bool has_gap() const;
  [[nodiscard]] std::size_t parked_bytes() const { return parked_bytes_; }

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // base position, base ephemeral

  [[nodiscard]] bool follows(const BroadcastBatch& batch) const;
  void append(BroadcastBatch batch, std::vector<BroadcastBatch>& ready);
  void park(BroadcastBatch batch);
  void release(std::vector<BroadcastBatch>& ready);

  const std::size_t parked_cap_;
  Head head_;
  std::map<Key, BroadcastBatch> parked_;
  std::size_t parked_bytes_ = 0;
  Key farthest_{0, 0};  // the largest end of a batch that was dropped
};

}  // namespace spillway::sse
