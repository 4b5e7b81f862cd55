#include "processor/idle_protocol.hpp"

#include <algorithm>
#include <utility>

namespace spillway {

using std::chrono::milliseconds;

IdleProtocol::Next IdleProtocol::after(const Look& look) {
  if (look.taken > 0) {
    ++busy_;
    sweep_ = false;
    armed_ = false;
    // Whoever armed it: a sibling that sleeps arms it anew at every poll.
    const bool enough = busy_ > 1 || look.taken >= options_.busy_batch;
    return {look.armed && enough ? Step::disarm : Step::look};
  }
  busy_ = 0;
  if (!std::exchange(sweep_, true)) return {Step::look};  // only its own share was empty
  if (!armed_) return {Step::arm};
  if (look.all_lanes && look.xmin >= bound_) bound_ = 0;
  if (bound_ != 0) {
    // Some transaction that was there at the arming still runs, or a sibling has a lane. It may be
    // anybody's, and take long, so the pauses grow.
    const milliseconds now = pause_;
    pause_ = std::min(options_.fallback_poll, pause_ * 3 / 2 + milliseconds(1));
    if (pause_ == options_.fallback_poll) armed_ = false;
    return {Step::pause, now};
  }
  armed_ = false;  // re-arm at every poll: a worker that died disarmed costs one poll at most
  return {Step::sleep, rest_};
}

void IdleProtocol::armed(std::uint64_t bound, std::optional<milliseconds> next_due) {
  armed_ = true;
  new_ = false;
  if (bound != 0) {
    bound_ = bound;
    pause_ = milliseconds(1);
  }
  rest_ =
      std::min(options_.fallback_poll, next_due.value_or(options_.fallback_poll) + milliseconds(1));
}

}  // namespace spillway
