#include "sse/shard_log.hpp"

#include <algorithm>
#include <utility>

#include "sse/channel_name.hpp"

namespace spillway::sse {

void ShardLog::restart(const Head& head) {
  first_segment_ = next_segment();  // numbers are never used twice
  segments_.clear();
  channels_.clear();
  patterns_.clear();
  touched_.clear();
  held_ = 0;
  ++generation_;
  latest_.clear();
  bytes_ = 0;
  epoch_ = head.epoch;
  base_ = end_ = head.position;
}

void ShardLog::append(SegmentPtr segment) {
  of_segment_.clear();
  for (const std::string& name : segment->channels) {
    ChannelFeed& feed = channel(name);
    match(feed);
    of_segment_.push_back(&feed);
  }
  const std::uint64_t number = next_segment();
  for (std::size_t i = 0; i < segment->frames.size(); ++i) {
    ChannelFeed& feed = *of_segment_[segment->frames[i].channel];
    push(feed, {number, i});
    if (segment->by_name_only) continue;
    for (PatternFeed* matching : feed.patterns) push(*matching, {number, i});
  }
  for (const LatestFramePtr& frame : segment->latest) latest_.put(frame, number);
  end_ = segment->end_position;
  bytes_ += segment->cost();
  segments_.push_back(std::move(segment));
  // The newest stays in any case: what nobody could be sent would be lost to all.
  while (bytes_ > cap_ && segments_.size() > 1) evict_front();
}

void ShardLog::push(Feed& feed, FramePlace place) {
  feed.places.push(place);
  if (feed.touched || feed.readers.empty()) return;
  feed.touched = true;
  touched_.push_back(&feed);
}

void ShardLog::evict_front() {
  const SegmentPtr segment = std::move(segments_.front());
  segments_.pop_front();
  const std::uint64_t number = first_segment_++;
  bytes_ -= segment->cost();
  base_ = segment->end_position;
  for (const std::string& name : segment->channels) {
    const auto found = channels_.find(std::string_view(name));
    if (found == channels_.end()) continue;
    ChannelFeed& feed = found->second;
    feed.places.drop_through(number);
    match(feed);
    for (PatternFeed* matching : feed.patterns) matching->places.drop_through(number);
    forget_if_dead(feed);
  }
}

bool ShardLog::has_readers(std::string_view name) const {
  const auto found = channels_.find(name);
  return found != channels_.end() && !found->second.readers.empty();
}

ChannelFeed& ShardLog::channel(std::string_view name) {
  auto found = channels_.find(name);
  if (found == channels_.end()) {
    found = channels_.try_emplace(std::string(name)).first;
    found->second.name = found->first;
  }
  return found->second;
}

PatternFeed& ShardLog::pattern(std::string_view prefix) {
  auto found = patterns_.find(prefix);
  if (found == patterns_.end()) {
    found = patterns_.try_emplace(std::string(prefix)).first;
    found->second.name = found->first;
    found->second.pattern = true;
    ++generation_;
  }
  return found->second;
}

void ShardLog::match(ChannelFeed& feed) {
  if (feed.generation == generation_) return;
  feed.generation = generation_;
  feed.patterns.clear();
  if (patterns_.empty()) return;
  // A prefix ends in a colon, so only the colons of the name need a look.
  for (std::size_t colon = feed.name.find(':'); colon != std::string_view::npos;
       colon = feed.name.find(':', colon + 1)) {
    const auto found = patterns_.find(feed.name.substr(0, colon + 1));
    if (found != patterns_.end()) feed.patterns.push_back(&found->second);
  }
}

void ShardLog::complete(PatternFeed& feed) {
  if (feed.complete) return;
  feed.complete = true;
  std::vector<FramePlace> earlier;
  const PlaceList& known = feed.places;
  for (const auto& [name, channel] : channels_) {
    if (!name.starts_with(feed.name)) continue;
    const PlaceList& places = channel.places;
    for (std::uint64_t i = places.begin_index(); i != places.end_index(); ++i) {
      if (!known.empty() && !(places[i] < known[known.begin_index()])) break;
      earlier.push_back(places[i]);
    }
  }
  std::sort(earlier.begin(), earlier.end());
  feed.places.prepend(earlier);
}

void ShardLog::subscribe(Reader& reader, const std::vector<std::string>& channels,
                         std::uint64_t after) {
  reader.after_ = after;
  reader.live_from_ = next_segment();
  reader.cursors_.reserve(channels.size());
  for (const std::string& name : channels) {
    if (const auto prefix = pattern_prefix(name)) {
      PatternFeed& feed = pattern(*prefix);
      if (after < end_) complete(feed);
      attach(reader, feed, first_after(feed.places, after));
    } else {
      Feed& feed = channel(name);
      attach(reader, feed, first_after(feed.places, after));
    }
  }
}

void ShardLog::subscribe(Reader& reader, const ChannelSplit& channels, std::uint64_t after,
                         std::uint64_t from) {
  subscribe(reader, channels.ordinary, after);
  // It was there when these segments came, so their ephemeral frames are live for it too.
  reader.live_from_ = from;
  for (const std::string& name : channels.latest) {
    const auto prefix = pattern_prefix(name);
    if (prefix && from < next_segment()) complete(pattern(*prefix));
    Feed& feed = prefix ? static_cast<Feed&>(pattern(*prefix)) : channel(name);
    std::uint64_t index = feed.places.end_index();
    while (index > feed.places.begin_index() && feed.places[index - 1].segment >= from) --index;
    attach(reader, feed, index);
  }
}

void ShardLog::attach(Reader& reader, Feed& feed, std::uint64_t index) {
  const auto cursor = static_cast<std::uint32_t>(reader.cursors_.size());
  const auto slot = static_cast<std::uint32_t>(feed.readers.size());
  reader.cursors_.push_back({&feed, index, slot});
  feed.readers.push_back({&reader, cursor});
}

std::uint64_t ShardLog::first_after(const PlaceList& places, std::uint64_t after) const {
  if (after >= end_) return places.end_index();
  std::uint64_t low = places.begin_index();
  std::uint64_t high = places.end_index();
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    const FramePlace& place = places[middle];
    if (segment(place)->frames[place.frame].position > after) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void ShardLog::unsubscribe(Reader& reader) {
  for (Cursor& cursor : reader.cursors_) {
    Feed& feed = *cursor.feed;
    Subscription& last = feed.readers.back();
    last.reader->cursors_[last.cursor].slot = cursor.slot;
    feed.readers[cursor.slot] = last;
    feed.readers.pop_back();
    if (!feed.readers.empty()) continue;
    if (feed.touched) std::erase(touched_, &feed);
    feed.touched = false;
    let_go(feed);
    feed.readers.shrink_to_fit();
    forget_if_dead(feed);
  }
  reader.cursors_.clear();
}

// Nobody is there to be woken.
void ShardLog::let_go(Feed& feed) {
  if (std::exchange(feed.held, false)) --held_;
}

void ShardLog::forget_if_dead(Feed& feed) {
  if (!feed.readers.empty()) return;
  if (feed.pattern) {
    ++generation_;
    patterns_.erase(patterns_.find(feed.name));
  } else if (feed.places.empty()) {
    channels_.erase(channels_.find(feed.name));
  }
}

}  // namespace spillway::sse
