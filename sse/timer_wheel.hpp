// One timer for all streams of a shard: a wheel of intrusive lists, so arming costs no allocation
// and a closed stream leaves by itself. Due times are rounded up to a tick; what is further away
// than the wheel reaches comes around early and is expected to be armed again.
//
// Belongs to the shard's thread; does not own what hangs on it.
#pragma once

#include <algorithm>
#include <array>
#include <boost/intrusive/list.hpp>
#include <chrono>
#include <cstddef>

namespace spillway::sse {

template <class Item, class Hook>
class TimerWheel {
 public:
  using Clock = std::chrono::steady_clock;

  TimerWheel(Clock::duration tick, Clock::time_point now) : tick_(tick), last_(now) {}

  void arm(Item& item, Clock::time_point due) {
    static_cast<Hook&>(item).unlink();
    const auto away =
        due > last_ ? static_cast<std::size_t>((due - last_ + tick_ - Clock::duration(1)) / tick_)
                    : 1;
    slots_[(current_ + std::clamp<std::size_t>(away, 1, kSlots - 1)) % kSlots].push_back(item);
  }

  // Calls `visit` for each item whose time has come; it is off the wheel by then.
  template <class Visit>
  void advance(Clock::time_point now, Visit visit) {
    // After a long stop once around is enough: everything has come due.
    for (std::size_t i = 0; i < kSlots && last_ + tick_ <= now; ++i) {
      last_ += tick_;
      current_ = (current_ + 1) % kSlots;
      List due;
      due.swap(slots_[current_]);
      while (!due.empty()) {
        Item& item = due.front();
        due.pop_front();
        visit(item);
      }
    }
    if (last_ + tick_ <= now) last_ = now;
  }

  // Of an empty wheel: goes on from `now`, as if time had not passed.
  void rewind(Clock::time_point now) { last_ = now; }

  [[nodiscard]] Clock::time_point next() const { return last_ + tick_; }

 private:
  static constexpr std::size_t kSlots = 64;
  using List = boost::intrusive::list<Item, boost::intrusive::base_hook<Hook>,
                                      boost::intrusive::constant_time_size<false>>;

  const Clock::duration tick_;
  Clock::time_point last_;  // up to here everything was visited
  std::size_t current_ = 0;
  std::array<List, kSlots> slots_;
};

}  // namespace spillway::sse
