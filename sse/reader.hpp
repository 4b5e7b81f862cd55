// A reader: where one stream stands in a shard's log. It has no queue of its own, only an index
// into each of its channels' feeds, merged by order; and, while a frame is half sent, the rest of
// it.
//
// Belongs to the shard's thread. Lives in the log's feeds between subscribe() and unsubscribe(), so
// it cannot be moved.
#pragma once

#include <sys/uio.h>

#include <array>
#include <boost/container/small_vector.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sse/feed.hpp"
#include "sse/segment.hpp"

namespace spillway::sse {

class ShardLog;

// What one system call is to send: pieces of memory, neighbours joined.
class Outgoing {
 public:
  static constexpr std::size_t kPieces = 64;
  static constexpr std::size_t kBytes = 64u << 10;

  using Time = std::chrono::steady_clock::time_point;

  void clear() {
    count_ = bytes_ = frames_ = 0;
    cut_ = false;
    committed_ = {};
  }
  [[nodiscard]] bool full() const { return count_ == kPieces || bytes_ == kBytes; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] bool cut() const { return cut_; }  // something was left out for want of room
  [[nodiscard]] iovec* pieces() { return pieces_.data(); }
  [[nodiscard]] std::size_t count() const { return count_; }
  void add(std::string_view text);  // what goes beyond kBytes is left out

  // For the counters: how many frames of the log are among it, and when the first live one was
  // committed; zero if that is not known.
  void count_frame() { ++frames_; }
  void count_frame(Time committed) {
    if (committed_ == Time{}) committed_ = committed;
    ++frames_;
  }
  [[nodiscard]] std::size_t frames() const { return frames_; }
  [[nodiscard]] Time committed() const { return committed_; }

 private:
  std::array<iovec, kPieces> pieces_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
  std::size_t frames_ = 0;
  bool cut_ = false;
  Time committed_{};
};

struct Cursor {
  Feed* feed = nullptr;
  std::uint64_t index = 0;
  std::uint32_t slot = 0;  // its place in feed->readers
};

class Reader {
 public:
  Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // The next frame was let go of before it was sent.
  [[nodiscard]] bool lost() const;
  [[nodiscard]] bool mid_frame() const { return !rest_.empty(); }

  // Soon fill() and sent() are called: where there are many cursors, begins to load them.
  void fetch_cursors() const { __builtin_prefetch(cursors_.data(), 1); }

  // Adds what comes next, as much as there is room for. `scratch` is working memory, shared by the
  // readers of a shard; sent() wants it as it was left.
  void fill(const ShardLog& log, Outgoing& out, std::vector<std::uint64_t>& scratch) const;

  // `bytes` of what fill() added have been sent; `all`: everything, and nothing of it was cut.
  // If not, returns how many frames of the log were begun.
  std::size_t sent(const ShardLog& log, std::size_t bytes, bool all,
                   std::vector<std::uint64_t>& scratch);

 private:
  friend class ShardLog;

  [[nodiscard]] const FramePlace* next(std::vector<std::uint64_t>& indexes) const;
  void load(std::vector<std::uint64_t>& indexes) const;
  void store(const std::vector<std::uint64_t>& indexes);
  [[nodiscard]] bool wanted(const FramePlace& place, const FrameRef& frame) const;

  // Most read one channel: its cursor is then not one more place in memory to wait for.
  boost::container::small_vector<Cursor, 1> cursors_;
  std::uint64_t after_ = 0;      // durable frames up to here were sent, or are not asked for
  std::uint64_t live_from_ = 0;  // segment number: earlier ephemeral frames are not replayed
  SegmentPtr held_;              // keeps `rest_` alive
  std::string_view rest_;        // of a frame that is partly sent
};

}  // namespace spillway::sse
