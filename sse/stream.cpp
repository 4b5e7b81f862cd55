#include "sse/stream.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "sse/frame.hpp"
#include "sse/shard.hpp"

namespace spillway::sse {
namespace {

constexpr int kCallsPerTurn = 4;  // a stream far behind must not hold up the others
constexpr std::chrono::seconds kBlockedLook{1};

}  // namespace

Stream::Stream(Shard& shard, Connection connection, ConnectionSlot slot, StreamRequest request)
    : shard_(shard),
      expires_(request.expires),
      catch_up_(std::make_unique<CatchUp>(shard.pages(), *this)),
      last_write_(shard.now()),
      connection_(std::move(connection)),
      slot_(std::move(slot)),
      places_(std::move(request.places)) {
  if (request.record)
    reported_ = std::make_unique<Reported>(Reported{std::move(*request.record), Clock::now()});
  catch_up_->channels = std::move(request.channels);
  catch_up_->from = std::move(request.from);
  catch_up_->more_headers = std::move(request.more_headers);
}

void Stream::open() {
  connection_.set_stream_options(shard_.options().blocked_timeout);
  wait_readable();
  const ShardLog& log = shard_.log();
  if (!log.latest_patterns().empty()) {
    auto split = split_channels(catch_up_->channels, log.latest_patterns());
    if (!split.latest.empty()) {
      catch_up_->latest = std::make_unique<Latest>();
      catch_up_->latest->channels = std::move(split);
      // Of a client that is ahead of this process it is known only later where it starts.
      const ResumePoint& from = catch_up_->from;
      const bool ahead = from.kind == ResumePoint::Kind::at && from.id.position > log.end();
      if (!ahead && !take_state(log.end())) return;
    }
  }
  start();
}

// --- writing ---

Stream::Result Stream::serve() {
  if (closed_) return Result::over;
  if (live_ && lost()) return over(StreamEnd::lagged);  // it was too slow; it comes back by its id
  if (expired()) return over(StreamEnd::expired);
  Outgoing& out = shard_.outgoing();
  for (int call = 0; call < kCallsPerTurn; ++call) {
    out.clear();
    if (heartbeat_due_ && own_.empty() && !mid_frame()) {
      own_ = kHeartbeat;
      shard_.count().heartbeats.add();
    }
    heartbeat_due_ = false;
    out.add(std::string_view(own_).substr(own_sent_));
    if (live_) fill(shard_.log(), out, shard_.scratch());
    if (out.bytes() == 0 && !connection_.unsent()) {
      if (live_) sent(shard_.log(), 0, true, shard_.scratch());  // past what it does not want
      return wrote_all();
    }
    const ssize_t n = connection_.send(out.pieces(), out.count());
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return over(StreamEnd::closed);
      shard_.count().deferred.add();
      behind_ = true;
      wait_writable();
      return Result::blocked;
    }
    last_write_ = shard_.now();
    stalled_since_ = {};
    const auto bytes = static_cast<std::size_t>(n);
    const bool whole = bytes == out.bytes() && !out.cut();
    const std::size_t begun = consume(bytes, whole);
    ShardCounters& count = shard_.count();
    count.sends.add();
    count.bytes.add(bytes);
    const std::size_t frames = whole ? out.frames() : begun;
    if (reported_) {
      reported_->record.bytes += bytes;
      reported_->record.frames += frames;
    }
    count.frames.add(frames);
    if (!behind_ && out.committed() != Clock::time_point{}) shard_.delivered(out.committed());
    behind_ = !whole || connection_.unsent();
    if (connection_.unsent()) {
      count.deferred.add();
      wait_writable();
      return Result::blocked;
    }
    if (whole && !out.full()) return wrote_all();
  }
  return Result::more;
}

std::size_t Stream::consume(std::size_t bytes, bool all) {
  const std::size_t of_own = std::min(bytes, own_.size() - own_sent_);
  own_sent_ += of_own;
  if (!own_.empty() && own_sent_ == own_.size()) {
    std::string().swap(own_);  // assigning an empty one would keep the memory of a whole page
    own_sent_ = 0;
  }
  return live_ ? sent(shard_.log(), bytes - of_own, all, shard_.scratch()) : 0;
}

void Stream::report(const AccessLog& log, StreamEnd why) noexcept {
  if (!reported_) return;
  AccessRecord& record = reported_->record;
  record.duration =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - reported_->opened);
  try {
    record.end = to_string(why);
    log(record);
  } catch (...) {  // the line is lost, for want of memory
  }
  reported_.reset();
}

Stream::Result Stream::over(StreamEnd why) {
  why_ = why;
  return Result::over;
}

void Stream::began(ResumeSource source) {
  shard_.count().resumes.add(source);
}

Stream::Result Stream::wrote_all() {
  if (finishing_) {
    if (dismissed_) return Result::over;
    dismiss();
    return Result::more;
  }
  if (catch_up_ && catch_up_->opened && !catch_up_->reading) page_sent();
  return Result::idle;
}

// Between two frames only, so that it cannot be taken for a part of one. Moves no id: the client
// resumes behind the last frame that it has.
void Stream::dismiss() {
  const auto retry = shard_.jittered_retry();
  if (!catch_up_ || catch_up_->opened) {
    append_retry(own_, retry);
  } else {
    began(ResumeSource::unavailable);
    own_ = come_back(retry, {}, catch_up_->more_headers);
    catch_up_->opened = true;
  }
  dismissed_ = true;
  // Nothing comes behind it.
  if (live_) shard_.log().unsubscribe(*this);
  live_ = false;
}

void Stream::wait_writable() {
  blocked_ = true;
  if (stalled_since_ == Clock::time_point{}) stalled_since_ = shard_.now();
  connection_.wait_writable([self = shared_from_this()](error_code) {
    self->blocked_ = false;
    if (!self->closed_) self->shard_.mark(*self);
  });
}

// --- the client's side ---

void Stream::wait_readable() {
  connection_.wait_readable([self = shared_from_this()](error_code) {
    if (!self->closed_) self->on_readable();
  });
}

void Stream::on_readable() {
  // Whatever a client says on its stream is of no interest.
  switch (connection_.discard_input()) {
    case Connection::Input::open:
      return wait_readable();
    case Connection::Input::closed:
      return on_input_closed();
    case Connection::Input::failed:
      return shard_.drop(*this, StreamEnd::closed);
  }
}

// A client that closed its sending side may well go on reading, and one that is gone altogether
// looks the same from here. So it is sent a comment at once: whoever is gone answers that with a
// reset.
void Stream::on_input_closed() {
  heartbeat_due_ = !catch_up_ || catch_up_->opened;
  shard_.mark(*this);
  connection_.wait_gone([self = shared_from_this()](error_code) {
    if (!self->closed_) self->shard_.drop(*self, StreamEnd::closed);
  });
}

// --- time ---

// Read from the clock each time: the shard's now() is of the turn's beginning, and a token is worth
// nothing a moment after its end. Who has no token asks no clock.
bool Stream::expired() const {
  return expires_ != kNever &&
         std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()) >= expires_;
}

Stream::Clock::time_point Stream::not_after_expiry(Clock::time_point due,
                                                   Clock::time_point now) const {
  if (expires_ == kNever) return due;
  const auto wall = std::chrono::system_clock::now();
  // What is far away does not fit into the clock's unit; the timer comes around before that.
  if (expires_ > std::chrono::floor<std::chrono::seconds>(wall) + std::chrono::hours(1)) return due;
  return std::min(due, now + std::max(expires_ - wall, decltype(expires_ - wall)::zero()));
}

std::optional<Stream::Clock::time_point> Stream::on_timer(Clock::time_point now) {
  if (expired()) {
    why_ = StreamEnd::expired;
    return std::nullopt;
  }
  const auto next = look_after(now);
  return next ? std::optional(not_after_expiry(*next, now)) : std::nullopt;
}

std::optional<Stream::Clock::time_point> Stream::look_after(Clock::time_point now) {
  const StreamOptions& options = shard_.options();
  if (live_ && lost()) {
    why_ = StreamEnd::lagged;
    return std::nullopt;
  }
  if (blocked_) {
    const auto end = stalled_since_ + options.blocked_timeout;
    if (now >= end) {
      why_ = StreamEnd::blocked;
      return std::nullopt;
    }
    // Soon, in case it becomes one that lags: what it holds of the log goes with it.
    return std::min({end, now + options.heartbeat, now + kBlockedLook});
  }
  if (catch_up_ && !catch_up_->opened) return now + options.heartbeat;
  if (now >= last_write_ + options.heartbeat) {
    heartbeat_due_ = true;
    shard_.mark(*this);
    return now + std::min(options.heartbeat, options.blocked_timeout);
  }
  return std::min(last_write_ + options.heartbeat, now + options.blocked_timeout);
}

void Stream::close() {
  if (closed_) return;
  closed_ = true;
  if (live_) shard_.log().unsubscribe(*this);
  live_ = false;
  if (catch_up_) catch_up_->turn.leave();
  DirtyHook::unlink();
  WheelHook::unlink();
  connection_.close();
  slot_ = {};
  places_ = {};
}

}  // namespace spillway::sse
