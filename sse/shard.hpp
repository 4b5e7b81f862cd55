// A shard: one thread, one io_context, one log, and the streams that were dealt to it. No lock is
// shared with other shards; the hub reaches it through its inbox, others through its mailbox.
//
// deliver(), restart(), post(), mailbox() and counters() may be called from any thread; start() and
// join() belong to the server's owner; the rest to the shard's thread. Owns its streams. Nothing a
// client does, and no exception, ends the thread: only finish() or abort() do.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <boost/intrusive/list.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "sse/access_record.hpp"
#include "sse/connection.hpp"
#include "sse/counters.hpp"
#include "sse/drain_pace.hpp"
#include "sse/inbox.hpp"
#include "sse/mailbox.hpp"
#include "sse/net.hpp"
#include "sse/presence_tracker.hpp"
#include "sse/shard_log.hpp"
#include "sse/stream.hpp"
#include "sse/timer_wheel.hpp"

namespace spillway::sse {

// What a shard needs to serve, for as long as a server runs on it.
struct Service {
  StreamOptions options;
  std::size_t replay_bytes = 64u << 20;  // pages of the database in memory
  ReplaySource* replay = nullptr;
  const AccessLog* access_log = nullptr;  // may be null
  // Connections that are not streams (yet): asked to end soon, and at once.
  std::function<void()> finish;
  std::function<void()> abort;
};

class Shard {
 public:
  using Clock = Stream::Clock;

  explicit Shard(std::size_t log_bytes, LatestOptions latest = {});
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  void deliver(const std::vector<SegmentPtr>& segments);
  void restart(const Head& head);
  void post(std::function<void()> task);
  [[nodiscard]] const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }
  [[nodiscard]] std::size_t streams() const { return stream_count_.load(); }
  [[nodiscard]] const ShardCounters& counters() const { return counters_; }

  // start() begins the thread; finish() ends what is open once it is done, streams at most at
  // `per_second` as long as that leaves time (drain_pace.hpp), all at the latest after `deadline`,
  // and then the thread; join() waits for that.
  void start(Service service);
  void finish(std::chrono::milliseconds deadline, std::size_t per_second);
  void join();

  // --- on the shard's thread ---
  [[nodiscard]] asio::io_context& context() { return context_; }
  [[nodiscard]] bool serving() const { return log_.started() && !finishing_; }
  [[nodiscard]] bool finishing() const { return finishing_; }
  void open(Connection connection, ConnectionSlot slot, StreamRequest request);
  void drop(Stream& stream, StreamEnd why);
  void mark(Stream& stream);  // it has something to do
  void look();                // takes in what the hub has delivered
  // Frames of this process alone, behind what is in the log and with the id of its last position.
  void announce(const std::vector<PresenceNews>& news);
  // What is known of those of the channels that announce it, for a stream that begins there.
  void append_presence(std::string& out, const std::vector<std::string>& channels,
                       std::uint64_t position) const;

  // Streams that catch up read their pages in turns (page_admission.hpp).
  [[nodiscard]] PageAdmission& pages() { return pages_; }
  void admit_pages();

  // A connection that is not a stream keeps the thread from ending.
  void add_child() { counters_.sessions.set(++children_); }
  void remove_child();

  [[nodiscard]] ShardCounters& count() { return counters_; }
  // A system call has taken live frames, of which the first was committed then.
  void delivered(Clock::time_point committed) {
    undated_[undated_count_++] = committed;
    if (undated_count_ == undated_.size()) date(Clock::now());
  }

  [[nodiscard]] ShardLog& log() { return log_; }
  [[nodiscard]] MemoryWindow memory() const { return {log_.epoch(), log_.base(), log_.end()}; }
  [[nodiscard]] const StreamOptions& options() const { return service_.options; }
  [[nodiscard]] ReplaySource& replay() { return *service_.replay; }
  [[nodiscard]] std::chrono::milliseconds jittered_retry();
  [[nodiscard]] Clock::time_point now() const { return now_; }
  [[nodiscard]] Outgoing& outgoing() { return outgoing_; }
  [[nodiscard]] std::vector<std::uint64_t>& scratch() { return scratch_; }

 private:
  using Dirty = boost::intrusive::list<Stream, boost::intrusive::base_hook<DirtyHook>,
                                       boost::intrusive::constant_time_size<false>>;
  using Wheel = TimerWheel<Stream, WheelHook>;
  using Work = asio::executor_work_guard<asio::io_context::executor_type>;

  void run();
  void turn();
  void schedule_turn();
  void fetch_ahead() const;
  void serve(Stream& stream);
  void mark_touched();
  void release_held();
  void arm_window();
  void drop_all(StreamEnd why);
  void date(Clock::time_point now);
  void tick();
  void arm_tick();
  void close_some();
  void abort();
  void end_if_done();

  asio::io_context context_{1};
  const std::shared_ptr<Mailbox> mailbox_;
  Inbox inbox_;
  std::atomic<std::size_t> stream_count_{0};
  std::thread thread_;
  std::optional<Work> work_;

  // the shard's thread only
  Service service_;
  ShardLog log_;
  PageAdmission pages_;  // outlives the streams
  std::vector<std::shared_ptr<Stream>> streams_;
  std::vector<std::shared_ptr<Stream>> dropped_;  // alive until nobody on the stack uses them
  std::unordered_map<std::string, std::shared_ptr<const std::string>> presence_;  // by channel
  Dirty dirty_;
  std::optional<Wheel> wheel_;
  asio::steady_timer tick_timer_;
  asio::steady_timer deadline_timer_;
  asio::steady_timer pace_timer_;
  asio::steady_timer window_timer_;  // for all channels that are held back
  bool window_armed_ = false;
  bool ticking_ = false;
  bool turn_posted_ = false;
  bool in_turn_ = false;
  bool finishing_ = false;
  std::optional<DrainPace> pace_;  // while finishing
  Clock::time_point finishing_since_;
  std::size_t asked_ = 0;    // how many streams were asked to end …
  std::size_t unasked_ = 0;  // … and those from here on in streams_ need not be asked again
  std::size_t children_ = 0;
  Clock::time_point now_;
  std::minstd_rand random_;
  // Deliveries since the clock was read last: one reading serves a few dozen system calls.
  std::array<Clock::time_point, 32> undated_{};
  std::size_t undated_count_ = 0;
  ShardCounters counters_;
  Outgoing outgoing_;                   // working memory of a system call
  std::vector<std::uint64_t> scratch_;  // working memory of readers
};

}  // namespace spillway::sse
