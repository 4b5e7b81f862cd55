#include "sse/feed.hpp"

namespace spillway::sse {
namespace {

constexpr std::size_t kWorthPacking = 64;

}  // namespace

void PlaceList::drop_through(std::uint64_t segment) {
  while (gone_ < places_.size() && places_[gone_].segment <= segment) {
    ++gone_;
    ++first_;
  }
  if (gone_ == places_.size()) {
    places_.clear();
    gone_ = 0;
    if (places_.capacity() > kWorthPacking) places_.shrink_to_fit();
  } else if (gone_ >= kWorthPacking && gone_ >= places_.size() / 2) {
    pack();
  }
}

void PlaceList::clear() {
  first_ = end_index();
  places_ = {};
  gone_ = 0;
}

void PlaceList::prepend(const std::vector<FramePlace>& places) {
  pack();
  places_.insert(places_.begin(), places.begin(), places.end());
  first_ -= places.size();
}

void PlaceList::pack() {
  places_.erase(places_.begin(), places_.begin() + static_cast<std::ptrdiff_t>(gone_));
  gone_ = 0;
  if (places_.capacity() > 4 * places_.size() + kWorthPacking) places_.shrink_to_fit();
}

}  // namespace spillway::sse
