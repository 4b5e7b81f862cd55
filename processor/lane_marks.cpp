#include "processor/lane_marks.hpp"

#include <algorithm>

namespace spillway {

LaneMarks::Claim LaneMarks::begin(std::size_t lane, std::uint64_t xmin, std::uint64_t xmax) {
  const std::scoped_lock lock(mutex_);
  Mark& mark = marks_.at(lane);
  if (mark.candidate == 0 && mark.seen >= mark.from && mark.seen > 0) {
    // This snapshot is newer than the one that showed `seen`, so its xmax covers all that matters.
    mark.candidate = mark.seen + 1;
    mark.bound = xmax;
  }
  Claim claim{mark.from, 0};
  if (mark.candidate != 0 && xmin >= mark.bound) claim.settled = mark.candidate;
  return claim;
}

void LaneMarks::committed(std::size_t lane, const Claim& claim, std::optional<std::uint64_t> last,
                          bool cut) {
  const std::scoped_lock lock(mutex_);
  Mark& mark = marks_.at(lane);
  if (claim.settled != 0) {
    const std::uint64_t upto = cut ? std::min(claim.settled, last.value_or(0) + 1) : claim.settled;
    mark.from = std::max(mark.from, upto);
    if (mark.candidate <= mark.from) mark.candidate = 0;
  }
  if (last) mark.seen = std::max(mark.seen, *last);
}

}  // namespace spillway
