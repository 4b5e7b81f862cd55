#include "processor/lane_marks.hpp"

#include <algorithm>

namespace spillway {
namespace {

using std::chrono::milliseconds;

// The ordinary rule needs as long as the batches of the siblings last; then a sample costs a look
// at the server's locks, some 0.1 ms.
constexpr milliseconds patience{40};
constexpr milliseconds between_samples{20};

}  // namespace

LaneMarks::Claim LaneMarks::begin(std::size_t lane, std::uint64_t xmin) {
  const std::scoped_lock lock(mutex_);
  const Mark& mark = marks_.at(lane);
  Claim claim;
  claim.from = mark.from;
  claim.fast = std::max(mark.fast, mark.from);
  claim.era = era_;
  if (claim.fast > claim.from) claim.blockers = mark.blockers;
  if (mark.candidate != 0 && xmin >= mark.bound) {
    claim.settled = mark.candidate;
  } else if (mark.candidate != 0 && mark.samples > 1) {
    claim.ripe = mark.candidate;
    claim.watched = mark.watched;
  }
  return claim;
}

void LaneMarks::committed(std::size_t lane, const Claim& claim, const Read& read,
                          Clock::time_point now) {
  const std::scoped_lock lock(mutex_);
  if (claim.era != era_) return;
  Mark& mark = marks_.at(lane);
  const auto reached = [&](std::uint64_t goal) {
    return read.cut ? std::min(goal, read.last.value_or(0) + 1) : goal;
  };
  // A read from `fast` on has seen nothing of what the blockers left below.
  const bool whole = !read.fast || claim.fast == claim.from;
  if (claim.settled != 0 && whole) mark.from = std::max(mark.from, reached(claim.settled));
  if (claim.ripe != 0 && reached(claim.ripe) > std::max(mark.fast, mark.from)) {
    if (claim.watched.empty() && whole) {
      mark.from = reached(claim.ripe);
    } else {
      mark.fast = reached(claim.ripe);
      mark.blockers = claim.watched;
    }
  }
  if (mark.fast <= mark.from) {
    mark.fast = 0;
    mark.blockers.clear();
  }
  if (mark.candidate <= std::max(mark.from, mark.fast)) mark.candidate = 0;
  if (mark.candidate == 0 && read.xid != 0 && read.last && *read.last >= mark.from) {
    mark.candidate = *read.last + 1;
    mark.bound = read.xid;
    mark.since = now;
    mark.samples = 0;
    mark.watched.clear();
  }
}

bool LaneMarks::wants_sample(Clock::time_point now) {
  const std::scoped_lock lock(mutex_);
  if (now - last_sample_ < between_samples) return false;
  for (const Mark& mark : marks_) {
    if (mark.candidate == 0 || mark.samples > 1) continue;
    // Once it has come to blockers, every mark is going to need samples.
    if (now - mark.since < (mark.fast > mark.from ? milliseconds(0) : patience)) continue;
    last_sample_ = now;
    return true;
  }
  return false;
}

void LaneMarks::sample(std::span<const std::uint64_t> writers) {
  const std::scoped_lock lock(mutex_);
  for (Mark& mark : marks_) {
    if (mark.candidate == 0 || mark.samples > 1) continue;
    if (mark.samples == 0)
      mark.watched.assign(writers.begin(), writers.end());
    else
      std::erase_if(mark.watched, [&](std::uint64_t xid) {
        return std::find(writers.begin(), writers.end(), xid) == writers.end();
      });
    ++mark.samples;
  }
}

void LaneMarks::forget() {
  const std::scoped_lock lock(mutex_);
  for (Mark& mark : marks_) mark = {};
  ++era_;
}

}  // namespace spillway
