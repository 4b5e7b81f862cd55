// A shard's view of the shared log: the newest segments, capped in bytes, and for each channel (and
// each pattern somebody reads) the places of its frames.
//
// Belongs to one thread. Segments are shared, feeds are owned; a feed is gone once it has neither
// frames nor readers, so memory does not grow with channels that are dead.
#pragma once

#include <boost/intrusive/list.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sse/broadcast.hpp"
#include "sse/feed.hpp"
#include "sse/latest.hpp"
#include "sse/reader.hpp"
#include "sse/segment.hpp"

namespace spillway::sse {

class ShardLog {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit ShardLog(std::size_t cap, LatestOptions latest = {})
      : cap_(cap),
        latest_patterns_(std::move(latest.patterns)),
        latest_(latest.channels, latest.bytes) {}

  // Empties the log; the line stands at `head`. No reader may be subscribed.
  void restart(const Head& head);
  [[nodiscard]] bool started() const { return !epoch_.empty(); }
  [[nodiscard]] const std::string& epoch() const { return epoch_; }

  // The durable positions base() < p <= end() are in memory.
  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }

  // Whether the segment continues the line. If not (some were dropped on the way here), drop the
  // readers and call restart() before append().
  [[nodiscard]] bool continues(const Segment& segment) const {
    return segment.base_position == end_;
  }
  [[nodiscard]] bool has_room_for(const Segment& segment) const {
    return bytes_ + segment.cost() <= cap_;
  }
  void append(SegmentPtr segment);  // lets go of the oldest ones beyond the cap

  // The reader gets what the channels carry after `after`, which must not lie before base(); of the
  // latest channels what came in segment `from` or later, which is in memory, and after `after`.
  void subscribe(Reader& reader, const std::vector<std::string>& channels, std::uint64_t after);
  void subscribe(Reader& reader, const ChannelSplit& channels, std::uint64_t after,
                 std::uint64_t from);
  void unsubscribe(Reader& reader);
  [[nodiscard]] bool has_readers(std::string_view channel) const;  // by its name

  // Calls `visit` for the readers of feeds that got frames since the last call; one that reads
  // several may be visited several times. `visit` must not unsubscribe.
  template <class Visit>
  void visit_touched(Visit visit) {
    for (Feed* feed : touched_) {
      feed->touched = false;
      visit_readers(*feed, visit);
    }
    touched_.clear();
    rotation_ += 61;
  }

  // The same where feeds wake their readers once in `window`, at most: the first frame at once,
  // what follows within the window at its end.
  template <class Visit>
  void visit_touched(Visit visit, Time now, Time::duration window) {
    visit_due(visit, now, window);
    for (Feed* feed : touched_) {
      feed->touched = false;
      if (!feed->CoolingHook::is_linked()) {
        wake(*feed, visit, now);
      } else if (!feed->held) {
        feed->held = true;
        ++held_;
      }
    }
    touched_.clear();
    rotation_ += 61;
  }

  // Those whose window is over and that were held back.
  template <class Visit>
  void visit_due(Visit visit, Time now, Time::duration window) {
    while (!cooling_.empty() && cooling_.front().woke + window <= now) {
      Feed& feed = cooling_.front();
      cooling_.pop_front();
      if (!std::exchange(feed.held, false)) continue;
      --held_;
      wake(feed, visit, now);
    }
  }

  // All that were held back, at once.
  template <class Visit>
  void visit_held(Visit visit, Time now) {
    for (auto next = cooling_.begin(); held_ > 0 && next != cooling_.end();) {
      Feed& feed = *next++;
      if (!std::exchange(feed.held, false)) continue;
      --held_;
      cooling_.erase(cooling_.iterator_to(feed));
      wake(feed, visit, now);
    }
  }

  // Whether some are held back, and when a window ends next.
  [[nodiscard]] bool holding() const { return held_ > 0; }
  [[nodiscard]] Time next_window(Time::duration window) const {
    return cooling_.front().woke + window;
  }

  [[nodiscard]] const SegmentPtr& segment(const FramePlace& place) const {
    return segments_[static_cast<std::size_t>(place.segment - first_segment_)];
  }

  // What is asked of the newest frames, as of now.
  [[nodiscard]] const std::vector<std::string>& latest_patterns() const { return latest_patterns_; }
  [[nodiscard]] LatestTable& latest() { return latest_; }
  [[nodiscard]] LatestPoint point() const { return {next_segment(), end_}; }
  [[nodiscard]] std::uint64_t first_segment() const { return first_segment_; }

  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t channels() const { return channels_.size(); }
  [[nodiscard]] std::size_t patterns() const { return patterns_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  template <class Value>
  using ByName = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

  template <class Visit>
  void visit_readers(Feed& feed, Visit visit) {
    // Begin somewhere else each time, so that nobody is always the last one served.
    const std::size_t count = feed.readers.size();
    const std::size_t start = count == 0 ? 0 : rotation_ % count;
    for (std::size_t i = start; i < count; ++i) visit(*feed.readers[i].reader);
    for (std::size_t i = 0; i < start; ++i) visit(*feed.readers[i].reader);
  }

  template <class Visit>
  void wake(Feed& feed, Visit visit, Time now) {
    feed.woke = now;
    cooling_.push_back(feed);  // in the order in which windows end: all are of one length
    visit_readers(feed, visit);
  }

  ChannelFeed& channel(std::string_view name);
  PatternFeed& pattern(std::string_view prefix);
  void match(ChannelFeed& feed);     // brings feed.patterns up to date
  void complete(PatternFeed& feed);  // adds frames from before the pattern was first read
  void push(Feed& feed, FramePlace place);
  void evict_front();
  void let_go(Feed& feed);
  void forget_if_dead(Feed& feed);
  void attach(Reader& reader, Feed& feed, std::uint64_t index);
  [[nodiscard]] std::uint64_t first_after(const PlaceList& places, std::uint64_t after) const;
  [[nodiscard]] std::uint64_t next_segment() const { return first_segment_ + segments_.size(); }

  const std::size_t cap_;
  const std::vector<std::string> latest_patterns_;
  LatestTable latest_;
  std::string epoch_;
  std::uint64_t base_ = 0;
  std::uint64_t end_ = 0;
  std::size_t bytes_ = 0;
  std::deque<SegmentPtr> segments_;
  std::uint64_t first_segment_ = 1;  // number of segments_.front(); 0: before all of them
  ByName<ChannelFeed> channels_;
  ByName<PatternFeed> patterns_;  // by prefix
  std::uint64_t generation_ = 1;  // of patterns_; a channel's matches are cached per generation
  std::vector<Feed*> touched_;    // have readers and frames these were not told of
  std::size_t rotation_ = 0;
  using Cooling = boost::intrusive::list<Feed, boost::intrusive::base_hook<CoolingHook>,
                                         boost::intrusive::constant_time_size<false>>;
  Cooling cooling_;                       // woke their readers a moment ago, the longest ago first
  std::size_t held_ = 0;                  // of these, with frames that wait
  std::vector<ChannelFeed*> of_segment_;  // working memory of append()
};

}  // namespace spillway::sse
