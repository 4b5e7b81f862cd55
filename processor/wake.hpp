// Wakes sleeping threads: a counter that goes up. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>

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
    {
      const std::scoped_lock lock(mutex_);
      ++count_;
      last_ = by;
    }
    changed_.notify_all();
  }

  // Waits until a signal that came after `seen` was read, or the time is over. Of several signals
  // the last one says who it was.
  Woken wait(std::uint64_t seen, std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, most, [&] { return count_ != seen; }) ? last_ : Woken::poll;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t count_ = 0;
  Woken last_ = Woken::local;
};

}  // namespace spillway
