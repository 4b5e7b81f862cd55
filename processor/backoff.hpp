// Delays between attempts to reach a database that is away: for ever, ever slower, with jitter so
// that a fleet does not come back in one moment. One per thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

namespace spillway {

class Backoff {
 public:
  explicit Backoff(std::chrono::milliseconds first = std::chrono::milliseconds(50),
                   std::chrono::milliseconds longest = std::chrono::milliseconds(5000))
      : first_(first), longest_(longest), now_(first) {}

  [[nodiscard]] std::chrono::milliseconds next() {
    const auto whole = now_;
    now_ = std::min(longest_, now_ * 2);
    const double share = std::uniform_real_distribution<double>(0.5, 1)(random_);
    return std::chrono::milliseconds(
        static_cast<long long>(static_cast<double>(whole.count()) * share));
  }
  void reset() { now_ = first_; }

 private:
  std::chrono::milliseconds first_;
  std::chrono::milliseconds longest_;
  std::chrono::milliseconds now_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace spillway
