#include "processor/idle_protocol.hpp"

#include <algorithm>
#include <utility>

namespace spillway {

using std::chrono::milliseconds;

void IdleProtocol::follow_flow(std::size_t taken) {
  const int enough = 4 * options_.flow_begins;
  if (taken >= options_.several) {
    evidence_ = std::min(enough, evidence_ + 4);
    if (evidence_ == enough || flow_ > 0) flow_ = options_.flow_ends;
    return;
  }
  if (taken > 0) evidence_ = std::max(0, evidence_ - 1);
  flow_ = std::max(0, flow_ - 1);
}

bool IdleProtocol::may_sleep_after(const Look& look) const {
  return look.complete && !look.heavy && look.all_lanes && look.lasting && !owes_ &&
         look.xmin >= bound_;
}

IdleProtocol::Next IdleProtocol::after(const Look& look) {
  busy_ = look.taken > 0 ? busy_ + 1 : 0;
  follow_flow(look.taken);
  if (look.taken > 0) {
    armed_ = false;
    // Whoever armed it: a sibling that sleeps arms it anew at every poll.
    const bool enough =
        flow_ > 0 || busy_ >= options_.busy_looks || look.taken >= options_.busy_batch;
    if (look.armed && enough) {
      owes_ = true;
      sweep_ = flow_ > 0;
      return {Step::disarm, {}, flow_ > 0};
    }
  }
  if (!look.heavy && look.promised && (look.taken == 0 || flow_ > 0)) {
    flow_ = evidence_ = 0;  // the other one's
    sweep_ = false;
    armed_ = false;
    return {Step::rely};
  }
  if (!look.heavy && flow_ > 0) {
    sweep_ = true;
    armed_ = false;
    return {Step::linger, options_.linger, true};
  }
  if (look.taken > 0 && may_sleep_after(look)) {
    bound_ = 0;
    busy_ = 0;
    sweep_ = true;
    return {Step::sleep, rest_};
  }
  if (look.taken > 0) {
    sweep_ = false;
    return {Step::look, {}, flow_ > 0};
  }
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
  if (bound != 0) {
    owes_ = false;
    bound_ = bound;
    pause_ = milliseconds(1);
  }
  rest_ =
      std::min(options_.fallback_poll, next_due.value_or(options_.fallback_poll) + milliseconds(1));
}

}  // namespace spillway
