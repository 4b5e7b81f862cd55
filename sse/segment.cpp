#include "sse/segment.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "sse/channel_pattern.hpp"
#include "sse/frame.hpp"

namespace spillway::sse {
namespace {

constexpr std::size_t kFrameOverhead = 64;  // `event:`, `data:` and `id:` around the text

class SegmentBuilder {
 public:
  SegmentBuilder(std::string_view epoch, const BroadcastBatch& batch, std::uint64_t base,
                 std::size_t room)
      : epoch_(epoch), segment_(std::make_shared<Segment>()) {
    segment_->base_position = segment_->end_position = base;
    segment_->committed = batch.committed;
    segment_->by_name_only = batch.by_name_only;
    segment_->bytes.reserve(room);
  }

  void add(const Broadcast& broadcast) {
    if (!broadcast.ephemeral) ++segment_->end_position;
    FrameRef frame;
    frame.position = segment_->end_position;
    frame.offset = segment_->bytes.size();
    frame.channel = number_of(broadcast.channel);
    frame.ephemeral = broadcast.ephemeral;
    append_frame(segment_->bytes, epoch_, frame.position, broadcast.event_type, broadcast.data);
    frame.length = segment_->bytes.size() - frame.offset;
    segment_->frames.push_back(frame);
  }

  // From the back, the first frame of each latest channel.
  void keep_latest(const std::vector<std::string>& patterns) {
    if (patterns.empty()) return;
    std::vector<char> wanted(segment_->channels.size());
    std::size_t left = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i)
      left += static_cast<std::size_t>(wanted[i] = covers(patterns, segment_->channels[i]));
    for (auto frame = segment_->frames.rbegin(); left > 0; ++frame) {
      if (!std::exchange(wanted[frame->channel], false)) continue;
      --left;
      auto latest = std::make_shared<LatestFrame>();
      latest->channel = segment_->channels[frame->channel];
      const std::string_view text = segment_->text(*frame);
      latest->text = text.substr(0, text.rfind("id: "));  // its last line
      latest->position = frame->position;
      latest->ephemeral = frame->ephemeral;
      segment_->latest.push_back(std::move(latest));
    }
  }

  [[nodiscard]] const Segment& so_far() const { return *segment_; }

  SegmentPtr finish() {
    if (segment_->bytes.capacity() > segment_->bytes.size() + segment_->bytes.size() / 4)
      segment_->bytes.shrink_to_fit();
    return std::move(segment_);
  }

 private:
  std::uint32_t number_of(const std::string& channel) {
    const auto next = static_cast<std::uint32_t>(segment_->channels.size());
    // Frames of one channel mostly follow each other, and most batches have few channels.
    if (next > 0 && segment_->channels[last_] == channel) return last_;
    const auto [found, is_new] = numbers_.try_emplace(channel, next);
    if (is_new) segment_->channels.push_back(channel);
    last_ = found->second;
    return last_;
  }

  std::string_view epoch_;
  std::shared_ptr<Segment> segment_;
  std::unordered_map<std::string_view, std::uint32_t> numbers_;  // keys belong to the batch
  std::uint32_t last_ = 0;
};

std::size_t room_for(const Broadcast& broadcast) {
  return broadcast.data.size() + broadcast.event_type.size() + kFrameOverhead;
}

}  // namespace

std::size_t Segment::cost() const {
  std::size_t cost = sizeof(Segment) + bytes.capacity();
  cost += frames.size() * (sizeof(FrameRef) + 2 * sizeof(std::uint64_t));
  for (const std::string& channel : channels) cost += sizeof(std::string) + channel.size();
  for (const LatestFramePtr& frame : latest) cost += sizeof(LatestFrame) + frame->text.size();
  return cost;
}

std::vector<SegmentPtr> encode_segments(std::string_view epoch, const BroadcastBatch& batch,
                                        std::size_t segment_bytes,
                                        const std::vector<std::string>& latest_patterns) {
  std::vector<SegmentPtr> segments;
  std::uint64_t base = batch.base_position;
  for (auto next = batch.broadcasts.begin(); next != batch.broadcasts.end();) {
    std::size_t room = 0;
    auto end = next;
    do {
      room += room_for(*end++);
    } while (end != batch.broadcasts.end() && room + room_for(*end) <= segment_bytes);
    SegmentBuilder builder(epoch, batch, base, room);
    std::for_each(next, end, [&](const Broadcast& broadcast) { builder.add(broadcast); });
    builder.keep_latest(latest_patterns);
    base = builder.so_far().end_position;
    segments.push_back(builder.finish());
    next = end;
  }
  return segments;
}

}  // namespace spillway::sse
