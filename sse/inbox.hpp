// What the hub has for a shard: segments in order, and a new beginning of the line. Bounded in
// bytes: the oldest segments go first, which the shard notices by the hole.
//
// put() and restart() may be called from any thread, the rest from the shard's.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "sse/broadcast.hpp"
#include "sse/segment.hpp"

namespace spillway::sse {

class Inbox {
 public:
  explicit Inbox(std::size_t cap) : cap_(cap) {}

  // Both return true when the shard has to be woken: it has not been since it last looked.
  [[nodiscard]] bool put(const std::vector<SegmentPtr>& segments) {
    const std::lock_guard lock(mutex_);
    for (const SegmentPtr& segment : segments) {
      segments_.push_back(segment);
      bytes_ += segment->cost();
    }
    while (bytes_ > cap_ && segments_.size() > 1) pop_front();
    return !std::exchange(woken_, true);
  }

  // What was put before belongs to a line that is over.
  [[nodiscard]] bool restart(const Head& head) {
    const std::lock_guard lock(mutex_);
    segments_.clear();
    bytes_ = 0;
    restart_ = head;
    return !std::exchange(woken_, true);
  }

  // The shard looks: from here on it wants to be woken again.
  void looked() {
    const std::lock_guard lock(mutex_);
    woken_ = false;
  }

  [[nodiscard]] bool waiting() {
    const std::lock_guard lock(mutex_);
    return restart_ || !segments_.empty();
  }

  // To be taken before segments are.
  [[nodiscard]] std::optional<Head> take_restart() {
    const std::lock_guard lock(mutex_);
    return std::exchange(restart_, std::nullopt);
  }

  // The next segment if `accept` likes it, or if too much is waiting to be choosy.
  template <class Accept>
  [[nodiscard]] SegmentPtr take(Accept accept) {
    const std::lock_guard lock(mutex_);
    // A restart that came since take_restart() was called goes first.
    if (restart_ || segments_.empty()) return nullptr;
    if (bytes_ <= cap_ / 2 && !accept(*segments_.front())) return nullptr;
    SegmentPtr segment = segments_.front();
    pop_front();
    return segment;
  }

 private:
  void pop_front() {
    bytes_ -= segments_.front()->cost();
    segments_.pop_front();
  }

  const std::size_t cap_;
  std::mutex mutex_;  // guards what follows
  std::deque<SegmentPtr> segments_;
  std::size_t bytes_ = 0;
  std::optional<Head> restart_;
  bool woken_ = false;
};

}  // namespace spillway::sse
