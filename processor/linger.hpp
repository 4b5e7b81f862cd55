// What the runners of a process promise each other: one of them will look into the queue again
// until a moment that it names, and its siblings need not arm (idle_protocol.hpp). One promise at a
// time. Whoever is kept from renewing it, by a batch that takes long or a session that
// is lost, breaks it by that alone: nothing has to be noticed or cleaned up. Thread-safe.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>

namespace spillway {

class Linger {
 public:
  using Moment = std::chrono::steady_clock::time_point;

  // Promises, or renews the promise, until then. False when a sibling's still holds.
  [[nodiscard]] bool promise(int runner, Moment now, Moment until) {
    const std::scoped_lock lock(mutex_);
    if (runner_ != runner && now < until_) return false;
    runner_ = runner;
    until_ = until;
    return true;
  }

  // Of no effect when the promise is not this runner's.
  void withdraw(int runner) {
    const std::scoped_lock lock(mutex_);
    if (runner_ == runner) until_ = Moment::min();
  }

  // Until when a sibling's promise holds, if one does.
  [[nodiscard]] std::optional<Moment> of_sibling(int runner, Moment now) const {
    const std::scoped_lock lock(mutex_);
    if (runner_ == runner || now >= until_) return std::nullopt;
    return until_;
  }

 private:
  mutable std::mutex mutex_;
  int runner_ = -1;
  Moment until_ = Moment::min();
};

}  // namespace spillway
