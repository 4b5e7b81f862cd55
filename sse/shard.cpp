#include "sse/shard.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <exception>
#include <utility>

#include "sse/frame.hpp"

namespace spillway::sse {
namespace {

using std::chrono::milliseconds;

// A turn ends after this many streams or this long, so that requests, timers and publishers get
// their share; what is left goes on in the next one.
constexpr const char* kPresenceEvent = "presence";

constexpr int kStreamsPerTurn = 512;
constexpr int kStreamsPerClockRead = 32;
constexpr int kSegmentsPerClockRead = 32;
constexpr milliseconds kTurn{1};

// Between two looks at how many streams are to be closed.
constexpr milliseconds kPaceStep{10};

// Fine enough for the shortest interval, coarse enough not to wake an idle process.
Stream::Clock::duration tick_length(const StreamOptions& options) {
  const auto shortest = std::min(options.heartbeat, options.blocked_timeout);
  return std::clamp<milliseconds>(shortest / 8, milliseconds(5), milliseconds(1000));
}

}  // namespace

Shard::Shard(std::size_t log_bytes, LatestOptions latest)
    : mailbox_(std::make_shared<Mailbox>([this](Mailbox::Task task) { post(std::move(task)); })),
      inbox_(log_bytes),
      log_(log_bytes, std::move(latest)),
      tick_timer_(context_),
      deadline_timer_(context_),
      pace_timer_(context_),
      window_timer_(context_),
      now_(Clock::now()),
      random_(std::random_device{}()) {}

Shard::~Shard() {
  mailbox_->close();
  if (thread_.joinable()) {
    finish(milliseconds(0), 0);
    join();
  }
  drop_all(StreamEnd::shutdown);
  dropped_.clear();
}

// --- any thread ---

void Shard::deliver(const std::vector<SegmentPtr>& segments) {
  if (inbox_.put(segments)) asio::post(context_, [this] { turn(); });
}

void Shard::restart(const Head& head) {
  if (inbox_.restart(head)) asio::post(context_, [this] { turn(); });
}

void Shard::post(std::function<void()> task) {
  asio::post(context_, std::move(task));
}

// --- the server's owner ---

void Shard::start(Service service) {
  service_ = std::move(service);
  pages_.limit(service_.replay_bytes);
  finishing_ = false;
  presence_.clear();
  now_ = Clock::now();
  wheel_.emplace(tick_length(service_.options), now_);
  context_.restart();
  work_.emplace(context_.get_executor());
  thread_ = std::thread([this] { run(); });
}

void Shard::finish(milliseconds deadline, std::size_t per_second) {
  asio::post(context_, [this, deadline, per_second] {
    if (!finishing_) {
      look();
      finishing_ = true;
      finishing_since_ = now_;
      // What is asked last needs some of the time to be written.
      pace_.emplace(streams_.size(), per_second, deadline * 6 / 7);
      asked_ = 0;
      unasked_ = streams_.size();
      close_some();
      if (service_.finish) service_.finish();
    }
    deadline_timer_.expires_after(deadline);
    deadline_timer_.async_wait([this](error_code error) {
      if (!error) abort();
    });
    end_if_done();
  });
}

void Shard::join() {
  if (!thread_.joinable()) return;
  thread_.join();
  work_.reset();
  // What was posted too late for the thread belongs to the server that is about to go.
  context_.restart();
  context_.poll();
  service_ = {};
}

// --- the shard's thread ---

void Shard::run() {
  for (;;) {
    try {
      context_.run();
      return;
    } catch (...) {
      // Out of memory, most likely, in something that belongs to one client. What is broken shows
      // as a connection that ends; the shard goes on.
    }
  }
}

void Shard::look() {
  inbox_.looked();
  now_ = Clock::now();
  if (const auto head = inbox_.take_restart()) {
    drop_all(StreamEnd::restarted);
    log_.restart(*head);
  }
  // While streams are being served, segments wait rather than push frames out of the log that these
  // streams have not been sent yet.
  const auto accept = [this](const Segment& segment) {
    if (log_.has_room_for(segment)) return true;
    release_held();
    return dirty_.empty();
  };
  const auto end = now_ + kTurn;
  for (int taken = 1; SegmentPtr segment = inbox_.take(accept); ++taken) {
    if (!log_.continues(*segment)) {
      drop_all(StreamEnd::lagged);
      log_.restart({log_.epoch(), segment->base_position, 0});
    }
    log_.append(std::move(segment));
    mark_touched();
    if (taken % kSegmentsPerClockRead == 0 && Clock::now() >= end) break;
  }
  counters_.log_bytes.set(log_.bytes());
  counters_.log_base.set(log_.base());
  counters_.log_end.set(log_.end());
  // Whoever looks from outside a turn leaves the rest to one.
  if (inbox_.waiting()) schedule_turn();
}

void Shard::mark_touched() {
  const auto visit = [this](Reader& reader) { mark(static_cast<Stream&>(reader)); };
  if (options().coalesce.count() == 0) return log_.visit_touched(visit);
  log_.visit_touched(visit, now_, options().coalesce);
  arm_window();
}

// Before frames are let go of that wait: they are delivered early.
void Shard::release_held() {
  if (!log_.holding()) return;
  log_.visit_held([this](Reader& reader) { mark(static_cast<Stream&>(reader)); }, now_);
}

void Shard::arm_window() {
  if (window_armed_ || !log_.holding()) return;
  window_armed_ = true;
  window_timer_.expires_at(log_.next_window(options().coalesce));
  window_timer_.async_wait([this](error_code error) {
    window_armed_ = false;
    if (error || !log_.holding()) return;
    now_ = Clock::now();
    log_.visit_due([this](Reader& reader) { mark(static_cast<Stream&>(reader)); }, now_,
                   options().coalesce);
    arm_window();
  });
}

void Shard::announce(const std::vector<PresenceNews>& news) {
  BroadcastBatch batch;
  batch.base_position = log_.end();
  batch.by_name_only = true;
  for (const PresenceNews& one : news) {
    if (!one.state) {
      presence_.erase(one.channel);
      continue;
    }
    presence_[one.channel] = one.state;
    if (!one.frame.empty() && log_.has_readers(one.channel))
      batch.broadcasts.push_back({log_.end(), one.channel, kPresenceEvent, one.frame, true});
  }
  if (!log_.started()) return;
  for (SegmentPtr& segment : encode_segments(log_.epoch(), batch)) {
    log_.append(std::move(segment));
    mark_touched();
  }
}

void Shard::append_presence(std::string& out, const std::vector<std::string>& channels,
                            std::uint64_t position) const {
  if (presence_.empty()) return;
  for (const std::string& channel : channels)
    if (const auto known = presence_.find(channel); known != presence_.end())
      append_frame(out, log_.epoch(), position, kPresenceEvent, *known->second);
}

void Shard::turn() {
  turn_posted_ = false;
  in_turn_ = true;
  const auto leave = [this](void*) { in_turn_ = false; };
  const std::unique_ptr<void, decltype(leave)> guard(this, leave);
  look();
  const auto end = now_ + kTurn;
  for (int served = 1; served <= kStreamsPerTurn && !dirty_.empty(); ++served) {
    Stream& stream = dirty_.front();
    dirty_.pop_front();
    fetch_ahead();
    serve(stream);
    if (served % kStreamsPerClockRead == 0) {
      now_ = Clock::now();
      date(now_);
      if (now_ >= end) break;
    }
  }
  if (undated_count_ > 0) date(Clock::now());
  dropped_.clear();
  admit_pages();
  in_turn_ = false;
  if (!dirty_.empty() || inbox_.waiting()) schedule_turn();
  end_if_done();
}

// Of thousands of streams each one's memory has left the caches since it was served last. A system
// call is long enough to load that of the one after next; the next one's was, a call ago.
void Shard::fetch_ahead() const {
  auto next = dirty_.begin();
  if (next == dirty_.end()) return;
  next->fetch_cursors();
  if (++next != dirty_.end()) next->fetch();
}

void Shard::serve(Stream& stream) {
  auto result = Stream::Result::idle;
  try {
    result = stream.serve();
  } catch (const std::exception&) {
    // Its state is not to be trusted any more; the client resumes by its id.
    return drop(stream, StreamEnd::error);
  }
  switch (result) {
    case Stream::Result::idle:
    case Stream::Result::blocked:
      break;
    case Stream::Result::more:
      mark(stream);
      break;
    case Stream::Result::over:
      drop(stream, stream.why());
      break;
  }
}

void Shard::mark(Stream& stream) {
  // A blocked one is marked when its socket takes data again.
  if (stream.blocked() || stream.DirtyHook::is_linked()) return;
  dirty_.push_back(stream);
  schedule_turn();
}

void Shard::schedule_turn() {
  if (turn_posted_ || in_turn_) return;  // a turn looks at its end whether another is needed
  asio::post(context_, [this] { turn(); });
  turn_posted_ = true;
}

void Shard::open(Connection connection, ConnectionSlot slot, StreamRequest request) {
  look();
  auto stream =
      std::make_shared<Stream>(*this, std::move(connection), std::move(slot), std::move(request));
  stream->number = streams_.size();
  streams_.push_back(stream);
  stream_count_.store(streams_.size());
  counters_.streams_opened.add();
  try {
    arm_tick();
    const auto due = now_ + std::min(options().heartbeat, options().blocked_timeout);
    wheel_->arm(*stream, stream->not_after_expiry(due, now_));
    stream->open();
  } catch (const std::exception&) {
    drop(*stream, StreamEnd::error);
  }
}

void Shard::drop(Stream& stream, StreamEnd why) {
  const std::size_t number = stream.number;
  if (number >= streams_.size() || streams_[number].get() != &stream) return;
  stream.close();
  counters_.ends.add(why);
  if (service_.access_log != nullptr) stream.report(*service_.access_log, why);
  std::swap(streams_[number], streams_.back());
  streams_[number]->number = number;
  dropped_.push_back(std::move(streams_.back()));
  streams_.pop_back();
  stream_count_.store(streams_.size());
  schedule_turn();  // lets go of it, and sees whether all is done
}

void Shard::drop_all(StreamEnd why) {
  while (!streams_.empty()) drop(*streams_.back(), why);
}

void Shard::date(Clock::time_point now) {
  for (std::size_t i = 0; i < undated_count_; ++i) {
    const auto passed = std::max(now - undated_[i], Clock::duration(0));
    counters_.delivery.observe(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(passed).count()));
  }
  undated_count_ = 0;
}

milliseconds Shard::jittered_retry() {
  return jittered(options().retry, static_cast<std::uint32_t>(random_()));
}

void Shard::admit_pages() {
  while (PageAdmission::Place* place = pages_.next()) {
    Stream& stream = static_cast<PageTurn*>(place)->stream;
    try {
      stream.read_page();
    } catch (const std::exception&) {
      pages_.answered();
      drop(stream, StreamEnd::error);
    }
  }
  counters_.pages_queued.set(pages_.waiting());
}

void Shard::arm_tick() {
  if (ticking_) return;
  ticking_ = true;
  // The wheel stands still, empty, while there are no streams.
  if (now_ >= wheel_->next()) wheel_->rewind(now_);
  tick_timer_.expires_at(wheel_->next());
  tick_timer_.async_wait([this](error_code) { tick(); });
}

void Shard::tick() {
  ticking_ = false;
  now_ = Clock::now();
  wheel_->advance(now_, [this](Stream& stream) {
    if (const auto next = stream.on_timer(now_)) {
      wheel_->arm(stream, *next);
    } else {
      drop(stream, stream.why());
    }
  });
  if (pages_.full()) {
    pages_.visit_holding([this](PageAdmission::Place& place) {
      static_cast<PageTurn&>(place).stream.spare_page(now_);
    });
    admit_pages();
  }
  if (!streams_.empty()) arm_tick();
}

// --- the end ---

void Shard::remove_child() {
  counters_.sessions.set(--children_);
  end_if_done();
}

// From the back, where drop() puts what fills a gap: a place that was passed holds a stream that
// was asked already.
void Shard::close_some() {
  const auto elapsed = std::chrono::duration_cast<milliseconds>(Clock::now() - finishing_since_);
  const std::size_t due = pace_->due(elapsed);
  unasked_ = std::min(unasked_, streams_.size());
  for (; asked_ < due && unasked_ > 0; ++asked_) {
    Stream& stream = *streams_[--unasked_];
    stream.finish(StreamEnd::shutdown);
    mark(stream);
  }
  if (unasked_ == 0) return;
  pace_timer_.expires_after(kPaceStep);
  pace_timer_.async_wait([this](error_code error) {
    if (!error && finishing_) close_some();
  });
}

void Shard::abort() {
  pace_timer_.cancel();
  drop_all(StreamEnd::shutdown);
  if (service_.abort) service_.abort();
  end_if_done();
}

void Shard::end_if_done() {
  if (finishing_ && streams_.empty() && children_ == 0) {
    deadline_timer_.cancel();
    pace_timer_.cancel();
    window_timer_.cancel();
    tick_timer_.cancel();
    work_.reset();  // the thread ends when the last cancelled wait has come back
  }
}

}  // namespace spillway::sse
