// How fast a server that stops closes its streams, so that those who come back, and whoever takes
// them over, are not all there in one instant: pure arithmetic, no clock, no I/O.
//
// The first few go at once. The rest goes at an even rate, a faster one when there are more of them
// than that rate can close in the time there is.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace spillway::sse {

class DrainPace {
 public:
  static constexpr std::size_t kAtOnce = 50;

  // `per_second`: the even rate; `most`: all must be asked to end by then.
  DrainPace(std::size_t streams, std::size_t per_second, std::chrono::milliseconds most)
      : streams_(streams) {
    if (streams <= kAtOnce) return;
    const auto rest = static_cast<std::chrono::milliseconds::rep>(streams - kAtOnce);
    const auto rate =
        static_cast<std::chrono::milliseconds::rep>(std::max<std::size_t>(1, per_second));
    const std::chrono::milliseconds even((rest * 1000 + rate - 1) / rate);
    spread_ = std::max(std::chrono::milliseconds(0), std::min(even, most));
  }

  // How many of them, in all, are to have been asked to end after that long.
  [[nodiscard]] std::size_t due(std::chrono::milliseconds elapsed) const {
    if (elapsed >= spread_) return streams_;
    const auto part = static_cast<double>(std::max(elapsed, std::chrono::milliseconds(0)).count()) /
                      static_cast<double>(spread_.count());
    return kAtOnce + static_cast<std::size_t>(static_cast<double>(streams_ - kAtOnce) * part);
  }

  // When the last ones are due.
  [[nodiscard]] std::chrono::milliseconds spread() const { return spread_; }

 private:
  std::size_t streams_;
  std::chrono::milliseconds spread_{0};
};

}  // namespace spillway::sse
