// Encoded frames of one batch in one block of memory: encoded once, shared by all shards and
// streams through shared_ptr, never changed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sse/broadcast.hpp"
#include "sse/latest.hpp"

namespace spillway::sse {

struct FrameRef {
  std::uint64_t position = 0;
  std::size_t offset = 0;  // into Segment::bytes
  std::size_t length = 0;
  std::uint32_t channel = 0;  // into Segment::channels
  bool ephemeral = false;
};

struct Segment {
  std::string bytes;
  std::vector<FrameRef> frames;
  std::vector<std::string> channels;  // each once
  std::uint64_t base_position = 0;  // holds the durable positions base_position < p <= end_position
  std::uint64_t end_position = 0;
  std::chrono::steady_clock::time_point committed{};  // zero: by another process
  bool by_name_only = false;                          // not for readers of a pattern
  std::vector<LatestFramePtr> latest;  // the newest frame of each latest channel among them

  [[nodiscard]] std::string_view text(const FrameRef& frame) const {
    return std::string_view(bytes).substr(frame.offset, frame.length);
  }

  // What keeping it costs in memory, for the caps: bytes, indexes and the shards' lists.
  [[nodiscard]] std::size_t cost() const;
};

using SegmentPtr = std::shared_ptr<const Segment>;

// A large batch becomes several segments, so that a stalled client holds, and the log lets go of, a
// little at a time.
inline constexpr std::size_t kSegmentBytes = 1u << 20;

// Positions are counted from the batch's base; an ephemeral frame has the id of the durable
// position before it.
[[nodiscard]] std::vector<SegmentPtr> encode_segments(
    std::string_view epoch, const BroadcastBatch& batch, std::size_t segment_bytes = kSegmentBytes,
    const std::vector<std::string>& latest_patterns = {});

}  // namespace spillway::sse
