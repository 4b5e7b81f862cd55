// A feed: the frames of one channel (or of one pattern) that are in a shard's memory, in order, and
// who reads them. Belongs to one shard's log and its thread; readers point into it.
#pragma once

#include <boost/intrusive/list_hook.hpp>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace spillway::sse {

class Reader;

// A frame's place in a shard's log; the order of places is the order of commits.
struct FramePlace {
  std::uint64_t segment = 0;  // number of the segment, counted since the log began
  std::size_t frame = 0;      // index in the segment

  auto operator<=>(const FramePlace&) const = default;
};

// A queue of places with absolute indexes: an index names the same frame for as long as the frame
// is there, however many were dropped before it. One block of memory, none while it is empty and
// new.
class PlaceList {
 public:
  [[nodiscard]] std::uint64_t begin_index() const { return first_; }
  [[nodiscard]] std::uint64_t end_index() const { return first_ + size(); }
  [[nodiscard]] std::size_t size() const { return places_.size() - gone_; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] const FramePlace& operator[](std::uint64_t index) const {
    return places_[gone_ + static_cast<std::size_t>(index - first_)];
  }

  void push(FramePlace place) { places_.push_back(place); }
  void drop_through(std::uint64_t segment);  // all places in that segment and those before it
  void clear();
  // Places before the first one that is here; the absolute indexes of the others stay.
  void prepend(const std::vector<FramePlace>& places);

 private:
  void pack();

  std::vector<FramePlace> places_;
  std::size_t gone_ = 0;                          // dropped from the front of places_
  std::uint64_t first_ = std::uint64_t{1} << 62;  // leaves room to prepend
};

struct Subscription {
  Reader* reader = nullptr;
  std::uint32_t cursor = 0;  // which of the reader's cursors
};

// Of feeds that woke their readers a moment ago; a feed that goes leaves by itself.
using CoolingHook =
    boost::intrusive::list_base_hook<boost::intrusive::tag<struct CoolingTag>,
                                     boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

struct Feed : CoolingHook {
  PlaceList places;
  std::vector<Subscription> readers;
  std::string_view name;  // the key it is kept under: a channel, or a pattern's prefix
  bool pattern = false;
  bool touched = false;  // has frames its readers were not told of
  bool held = false;     // … and which wait for the end of the feed's window
  std::chrono::steady_clock::time_point
      woke{};  // its readers, while they are woken once in a while
};

// All frames of every channel that starts with `name`; exists while somebody reads it.
struct PatternFeed : Feed {
  bool complete = false;  // holds all matching frames in memory, not only those since it began
};

struct ChannelFeed : Feed {
  std::vector<PatternFeed*> patterns;  // those that match, while `generation` is the log's
  std::uint64_t generation = 0;
};

}  // namespace spillway::sse
