#include "processor/lane_marks.hpp"

#include <algorithm>

namespace spillway {

LaneMarks::Claim LaneMarks::begin(std::size_t lane, std::uint64_t xmin) {
  const std::scoped_lock lock(mutex_);
  const Mark& mark = marks_.at(lane);
  const bool settled = mark.candidate != 0 && xmin >= mark.bound;
  return {mark.from, settled ? mark.candidate : 0, era_};
}

void LaneMarks::committed(std::size_t lane, const Claim& claim, const Read& read) {
  const std::scoped_lock lock(mutex_);
  if (claim.era != era_) return;
  Mark& mark = marks_.at(lane);
  if (claim.settled != 0) {
    const std::uint64_t upto =
        read.cut ? std::min(claim.settled, read.last.value_or(0) + 1) : claim.settled;
    mark.from = std::max(mark.from, upto);
    if (mark.candidate <= mark.from) mark.candidate = 0;
  }
  if (mark.candidate == 0 && read.xid != 0 && read.last && *read.last >= mark.from) {
    mark.candidate = *read.last + 1;
    mark.bound = read.xid;
  }
}

void LaneMarks::forget() {
  const std::scoped_lock lock(mutex_);
  for (Mark& mark : marks_) mark = {};
  ++era_;
}

}  // namespace spillway
