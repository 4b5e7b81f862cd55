#include "sse/latest.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "sse/channel_name.hpp"
#include "sse/channel_pattern.hpp"
#include "sse/frame.hpp"

namespace spillway::sse {
namespace {

constexpr std::size_t kEntryOverhead = 200;  // nodes of the map and the list, the frame's block
constexpr std::size_t kWholePatterns = 1000;

bool earlier(const LatestFramePtr& a, const LatestFramePtr& b) {
  return std::tie(a->position, a->ephemeral, a->channel) <
         std::tie(b->position, b->ephemeral, b->channel);
}

}  // namespace

ChannelSplit split_channels(const std::vector<std::string>& channels,
                            const std::vector<std::string>& latest_patterns) {
  ChannelSplit split;
  for (const std::string& channel : channels)
    (covers(latest_patterns, channel) ? split.latest : split.ordinary).push_back(channel);
  const auto read_anyhow = [&](const std::string& channel) {
    return covers(split.ordinary, channel);
  };
  const auto moved =
      std::stable_partition(split.latest.begin(), split.latest.end(), std::not_fn(read_anyhow));
  const std::vector<std::string> ordinary(moved, split.latest.end());
  split.latest.erase(moved, split.latest.end());
  split.ordinary.insert(split.ordinary.end(), ordinary.begin(), ordinary.end());
  return split;
}

LatestFramePtr latest_frame(const Broadcast& broadcast) {
  auto frame = std::make_shared<LatestFrame>();
  frame->channel = broadcast.channel;
  frame->position = broadcast.position;
  frame->ephemeral = broadcast.ephemeral;
  append_frame_text(frame->text, broadcast.event_type, broadcast.data);
  return frame;
}

void append_shown(std::string& out, const LatestFrame& frame, std::string_view epoch,
                  std::uint64_t position) {
  out += frame.text;
  append_frame_id(out, epoch, position);
}

bool covers(const LatestPoint& point, std::uint64_t after, std::uint64_t first) {
  return after <= point.position && first <= point.segment;
}

std::vector<LatestFramePtr> merge_latest(std::vector<LatestFramePtr> memory,
                                         const std::vector<Broadcast>& database) {
  std::map<std::string_view, LatestFramePtr> newest;
  std::vector<LatestFramePtr> frames = std::move(memory);
  for (const Broadcast& broadcast : database) frames.push_back(latest_frame(broadcast));
  for (const LatestFramePtr& frame : frames) {
    LatestFramePtr& known = newest[frame->channel];
    if (!known ||
        std::tie(known->position, known->ephemeral) < std::tie(frame->position, frame->ephemeral))
      known = frame;
  }
  frames.clear();
  for (auto& [channel, frame] : newest) frames.push_back(std::move(frame));
  std::sort(frames.begin(), frames.end(), earlier);
  return frames;
}

std::size_t LatestTable::cost(const std::string& channel, const LatestFramePtr& frame) {
  return kEntryOverhead + channel.size() +
         (frame ? sizeof(LatestFrame) + frame->channel.size() + frame->text.capacity() : 0);
}

void LatestTable::put(LatestFramePtr frame, std::uint64_t segment) {
  auto found = entries_.find(frame->channel);
  if (found == entries_.end()) {
    found = entries_.try_emplace(frame->channel).first;
    found->second.turn = turns_.insert(turns_.end(), found->first);
  } else {
    bytes_ -= cost(found->first, found->second.frame);
    turns_.splice(turns_.end(), turns_, found->second.turn);
  }
  found->second.frame = std::move(frame);
  found->second.segment = segment;
  bytes_ += cost(found->first, found->second.frame);
  forget_beyond_limits();
}

void LatestTable::clear() {
  turns_.clear();
  entries_.clear();
  whole_.clear();
  bytes_ = 0;
  ++forgotten_;
}

bool LatestTable::known_whole(std::string_view wanted) const {
  return std::any_of(whole_.begin(), whole_.end(),
                     [&](const std::string& pattern) { return covers(pattern, wanted); });
}

LatestTable::Known LatestTable::look_up(const std::vector<std::string>& wanted,
                                        std::uint64_t since) const {
  Known known;
  known.forgotten = forgotten_;
  const auto take = [&](const Entry& entry) {
    if (entry.frame && entry.segment >= since) known.frames.push_back(entry.frame);
  };
  for (const std::string& name : wanted) {
    if (const auto prefix = pattern_prefix(name)) {
      for (auto next = entries_.lower_bound(*prefix);
           next != entries_.end() && next->first.starts_with(*prefix); ++next)
        take(next->second);
      if (!known_whole(name)) known.missing.push_back(name);
    } else if (const auto found = entries_.find(name); found != entries_.end()) {
      take(found->second);
    } else if (!known_whole(name)) {
      known.missing.push_back(name);
    }
  }
  return known;
}

void LatestTable::learn(const Known& asked, const std::vector<Broadcast>& answer, bool complete) {
  if (asked.forgotten != forgotten_) return;
  for (const Broadcast& broadcast : answer) {
    // One that came meanwhile is newer.
    if (!entries_.contains(broadcast.channel)) add_old(broadcast.channel, latest_frame(broadcast));
  }
  if (!complete) return;
  for (const std::string& name : asked.missing) {
    if (!pattern_prefix(name)) {
      if (!entries_.contains(name)) add_old(name, nullptr);
    } else if (asked.forgotten == forgotten_) {
      if (whole_.size() == kWholePatterns) whole_.clear();
      whole_.insert(name);
    }
  }
}

void LatestTable::add_old(const std::string& channel, LatestFramePtr frame) {
  const auto added = entries_.try_emplace(channel).first;
  added->second.turn = turns_.insert(turns_.begin(), added->first);
  added->second.frame = std::move(frame);
  bytes_ += cost(added->first, added->second.frame);
  forget_beyond_limits();
}

void LatestTable::forget_beyond_limits() {
  while (!turns_.empty() && (entries_.size() > most_ || bytes_ > cap_)) {
    const auto oldest = entries_.find(turns_.front());
    turns_.pop_front();
    bytes_ -= cost(oldest->first, oldest->second.frame);
    if (oldest->second.frame) {
      ++forgotten_;
      whole_.clear();
    }
    entries_.erase(oldest);
  }
}

}  // namespace spillway::sse
