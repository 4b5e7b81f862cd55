// Wakes sleeping threads: a counter that goes up. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

namespace spillway {

// What ended a wait.
enum class Woken : std::uint8_t {
  poll,    // the time was over
  local,   // somebody in this process
  notify,  // a NOTIFY of the database
  count
};
[[nodiscard]] constexpr std::string_view to_string(Woken woken) {
  return woken == Woken::local ? "local" : woken == Woken::notify ? "notify" : "poll";
}

class Wake {
 public:
  [[nodiscard]] std::uint64_t count() const {
    const std::scoped_lock lock(mutex_);
    return count_;
  }

  void signal(Woken by = Woken::local) {
    count_up(by);
    changed_.notify_all();
    resting_.notify_all();
  }

  // Wakes one of those that wait, whichever; those that do not wait yet will all see it.
  void signal_one(Woken by) {
    count_up(by);
    changed_.notify_one();
  }

  // Waits until a signal that came after `seen` was read, or the time is over. Of several signals
  // the last one says who it was.
  Woken wait(std::uint64_t seen, std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, most, [&] { return count_ != seen; }) ? last_ : Woken::poll;
  }

  // Waits until `enough` says so, which is asked at each signal(), or the time is over. Whoever
  // rests takes no signal_one() away from those that wait.
  template <typename Enough>
  void rest(std::chrono::milliseconds most, Enough enough) {
    std::unique_lock lock(mutex_);
    resting_.wait_for(lock, most, std::move(enough));
  }

 private:
  void count_up(Woken by) {
    const std::scoped_lock lock(mutex_);
    ++count_;
    last_ = by;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable resting_;
  std::uint64_t count_ = 0;
  Woken last_ = Woken::local;
};

}  // namespace spillway
