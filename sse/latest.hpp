// Channels of which only the newest frame matters ("latest" channels): whoever opens a stream with
// one is shown that frame, right behind the connected frame, and is spared what came before it.
//
// Plain values and bookkeeping, no I/O, no thread-safety of their own. What a stream does with them
// is in stream.cpp; that a frame shown is neither missed nor doubled rests on LatestPoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "sse/broadcast.hpp"

namespace spillway::sse {

struct LatestOptions {
  std::vector<std::string> patterns;  // channels and `Prefix:*`; empty: none
  std::size_t channels = 10'000;      // newest frames kept in memory
  std::size_t bytes = 16u << 20;
};

// What a request for `channels` takes as latest channels. One that an ordinary pattern of the same
// request reads anyhow is ordinary: all its frames are replayed.
struct ChannelSplit {
  std::vector<std::string> ordinary;
  std::vector<std::string> latest;

  bool operator==(const ChannelSplit&) const = default;
};
[[nodiscard]] ChannelSplit split_channels(const std::vector<std::string>& channels,
                                          const std::vector<std::string>& latest_patterns);

// The newest frame of a channel, without its `id:`: whoever is shown it gets the id of the place
// where the stream starts, so that no id goes back.
struct LatestFrame {
  std::string channel;
  std::string text;
  std::uint64_t position = 0;  // ephemeral: the last durable position before it
  bool ephemeral = false;
};
using LatestFramePtr = std::shared_ptr<const LatestFrame>;

[[nodiscard]] LatestFramePtr latest_frame(const Broadcast& broadcast);
void append_shown(std::string& out, const LatestFrame& frame, std::string_view epoch,
                  std::uint64_t position);

// As of when a state was shown: segments from this one on were not part of it, and it holds every
// durable frame up to this position.
struct LatestPoint {
  std::uint64_t segment = 0;
  std::uint64_t position = 0;
};

// Whether a stream may go live behind `after` with what it was shown at `point`: all that came
// since is in memory (from segment `first` on), and carries ids that do not go back.
[[nodiscard]] bool covers(const LatestPoint& point, std::uint64_t after, std::uint64_t first);

// The newest frame of each channel: as far as memory knows, then what the database says. Of two of
// one channel the later one; in commit order.
[[nodiscard]] std::vector<LatestFramePtr> merge_latest(std::vector<LatestFramePtr> memory,
                                                       const std::vector<Broadcast>& database);

// The newest frames, bounded in channels and bytes: the one least recently written goes first.
// Knows also which channels have none, and which patterns it knows all channels of, so that the
// database is asked once and not by everybody.
class LatestTable {
 public:
  LatestTable(std::size_t channels, std::size_t bytes) : most_(channels), cap_(bytes) {}

  void put(LatestFramePtr frame, std::uint64_t segment);
  void clear();

  // What it knows of the channels and patterns, and for which of them the database must be asked.
  struct Known {
    std::vector<LatestFramePtr> frames;  // put from segment `since` on
    std::vector<std::string> missing;
    std::uint64_t forgotten = 0;  // for learn()
  };
  [[nodiscard]] Known look_up(const std::vector<std::string>& wanted, std::uint64_t since) const;

  // The database's answer to `missing`, up to where the log stood when look_up() was called.
  // Nothing is learned when a frame was forgotten meanwhile, because it may have been a newer one.
  void learn(const Known& asked, const std::vector<Broadcast>& answer, bool complete);

  [[nodiscard]] std::size_t channels() const { return entries_.size(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    LatestFramePtr frame;  // null: the channel has none
    std::uint64_t segment = 0;
    std::list<std::string_view>::iterator turn;
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  void add_old(const std::string& channel, LatestFramePtr frame);
  void forget_beyond_limits();
  [[nodiscard]] static std::size_t cost(const std::string& channel, const LatestFramePtr& frame);
  [[nodiscard]] bool known_whole(std::string_view wanted) const;

  const std::size_t most_;
  const std::size_t cap_;
  Entries entries_;
  std::list<std::string_view> turns_;  // least recently written first
  std::size_t bytes_ = 0;
  std::set<std::string, std::less<>> whole_;  // patterns of which all channels are here
  std::uint64_t forgotten_ = 0;               // frames that went for want of room
};

}  // namespace spillway::sse
