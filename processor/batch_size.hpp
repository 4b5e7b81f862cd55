// How many events the next batch may take. Starts at the most, halves when batches take too long or
// fail, grows again while they are full and quick. Never lingers: a batch takes what is there.
// Pure; one per runner.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace spillway {

class BatchSize {
 public:
  // `longest`: how long a batch may take. It bounds what a shutdown waits for and what a crash
  // redoes.
  explicit BatchSize(std::size_t most,
                     std::chrono::milliseconds longest = std::chrono::milliseconds(500))
      : most_(std::max<std::size_t>(most, 1)), now_(most_), longest_(longest) {}

  [[nodiscard]] std::size_t next() const { return now_; }

  void succeeded(std::size_t taken, std::chrono::milliseconds took) {
    if (took > longest_)
      now_ = std::max<std::size_t>(1, std::min(now_, taken) / 2);
    else if (taken >= now_ && took < longest_ / 2)
      now_ = std::min(most_, now_ * 2);
  }

  // The batch as a whole could not be completed.
  void failed() { now_ = std::max<std::size_t>(1, now_ / 2); }
  void failed(std::size_t taken) {
    now_ = std::min(now_, std::max<std::size_t>(taken, 1));
    failed();
  }

 private:
  std::size_t most_;
  std::size_t now_;
  std::chrono::milliseconds longest_;
};

}  // namespace spillway
