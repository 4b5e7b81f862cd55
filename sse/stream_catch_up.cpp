// A stream until it is live: what resume.hpp decided is carried out here, pages of the database and
// the newest frames of latest channels are read and shown.
#include <algorithm>
#include <exception>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>

#include "sse/frame.hpp"
#include "sse/shard.hpp"
#include "sse/stream.hpp"

namespace spillway::sse {
namespace {

constexpr std::size_t kStateBytes = 64u << 10;  // of latest channels, shown at a time

constexpr int kPagePatience = 30;           // a part of blocked_timeout: a second of the usual 30
constexpr std::size_t kFrameOverhead = 64;  // `event:`, `data:` and `id:` around the text

ResumeSource source_of(ResetReason reason) {
  switch (reason) {
    case ResetReason::expired:
      return ResumeSource::reset_expired;
    case ResetReason::epoch:
      return ResumeSource::reset_epoch;
    case ResetReason::future:
      return ResumeSource::reset_future;
    case ResetReason::invalid:
      break;
  }
  return ResumeSource::reset_invalid;
}

}  // namespace

void Stream::start() {
  if (catch_up_->latest && catch_up_->latest->channels.ordinary.empty())
    return carry_out(resume_latest(catch_up_->from, shard_.memory()));
  std::visit([this](const auto& step) { carry_out(step); },
             resume_at_start(catch_up_->from, shard_.memory()));
}

// --- what resume.hpp decided ---

void Stream::carry_out(const GoLive& live) {
  const std::unique_ptr<Latest>& latest = catch_up_->latest;
  if (latest &&
      !(latest->point && covers(*latest->point, live.after, shard_.log().first_segment()))) {
    if (!take_state(live.after)) {
      latest->then = live.after;
      return;
    }
  }
  if (!catch_up_->opened) {
    began(catch_up_->from.kind == ResumePoint::Kind::none ? ResumeSource::fresh
                                                          : ResumeSource::memory);
    begin_response(live.after);
  }
  if (latest) {
    show_state(live.after, kStateBytes);
    if (!latest->frames.empty()) {  // the others once these are written
      latest->then = live.after;
      return shard_.mark(*this);
    }
    shard_.append_presence(own_, catch_up_->channels, live.after);
    shard_.log().subscribe(*this, latest->channels, live.after, latest->point->segment);
  } else {
    shard_.append_presence(own_, catch_up_->channels, live.after);
    shard_.log().subscribe(*this, catch_up_->channels, live.after);
  }
  live_ = true;
  catch_up_.reset();
  shard_.mark(*this);
}

void Stream::carry_out(const ReadPage& read) {
  catch_up_->reading = true;
  catch_up_->read_after = read.after;
  catch_up_->read_limit = read.limit;
  shard_.pages().wait(catch_up_->turn);
  shard_.admit_pages();
}

void Stream::read_page() {
  shard_.count().pages_asked.add();
  const auto& latest = catch_up_->latest;
  if (latest && latest->asking) return read_state();
  ReplayRequest request{latest ? latest->channels.ordinary : catch_up_->channels,
                        catch_up_->read_after, catch_up_->read_limit, shard_.options().page_bytes};
  const auto done = answer_to(&Stream::on_page);
  try {
    shard_.replay().read(std::move(request), done);
  } catch (...) {
    done(std::nullopt);  // a source that cannot even be asked is one that cannot be read now
  }
}

// What takes an answer of the replay source to `act`, on the shard's thread.
template <class Page>
std::function<void(std::optional<Page>)> Stream::answer_to(
    void (Stream::*act)(std::optional<Page>)) {
  return [mailbox = shard_.mailbox(), shard = &shard_, weak = weak_from_this(),
          act](std::optional<Page> page) {
    // The mailbox takes copyable tasks; a page is too large to copy.
    auto shared = std::make_shared<std::optional<Page>>(std::move(page));
    mailbox->post([shard, weak, act, shared] {
      shard->count().pages_answered.add();
      shard->pages().answered();
      if (const auto stream = weak.lock()) {
        try {
          ((*stream).*act)(std::move(*shared));
        } catch (const std::exception&) {
          shard->drop(*stream, StreamEnd::error);  // half a page would be worse than none
        }
      }
      shard->admit_pages();
    });
  };
}

void Stream::carry_out(const Reset& reset) {
  began(source_of(reset.reason));
  begin_response(reset.head);
  append_reset(own_, shard_.log().epoch(), reset.reason, catch_up_->from.requested, reset.floor,
               reset.head);
  carry_out(GoLive{reset.head});
}

void Stream::carry_out(const ComeBack&) {
  dismiss();
  finish(StreamEnd::unavailable);
  shard_.mark(*this);
}

void Stream::send_page(const SendPage& send, const ReplayPage& page) {
  if (!catch_up_->opened) {
    began(ResumeSource::database);
    begin_response(send.after);
    show_state(send.after, std::numeric_limits<std::size_t>::max());
  }
  catch_up_->after = send.after;
  catch_up_->upto = page.upto;
  std::size_t room = own_.size();
  for (const Broadcast& broadcast : page.broadcasts)
    room += broadcast.data.size() + broadcast.event_type.size() + kFrameOverhead;
  own_.reserve(room);
  for (const Broadcast& broadcast : page.broadcasts) {
    if (broadcast.ephemeral || broadcast.position <= send.after) continue;
    append_frame(own_, shard_.log().epoch(), broadcast.position, broadcast.event_type,
                 broadcast.data);
    shard_.count().frames_replayed.add();
  }
  shard_.pages().hold(catch_up_->turn, own_.capacity());
  shard_.mark(*this);
}

void Stream::on_page(std::optional<ReplayPage> page) {
  if (closed_ || finishing_ || !catch_up_ || !catch_up_->reading) return;
  catch_up_->reading = false;
  const auto act = [&](const auto& step) {
    if constexpr (std::is_same_v<std::decay_t<decltype(step)>, SendPage>) {
      send_page(step, *page);
    } else {
      carry_out(step);
    }
  };
  if (!page) {
    carry_out(ComeBack{});
  } else if (catch_up_->opened) {
    std::visit(act, resume_on_next_page(catch_up_->upto, *page, shard_.memory()));
  } else {
    std::visit(act, resume_on_first_page(catch_up_->from, *page, shard_.memory()));
  }
}

void Stream::begin_response(std::uint64_t position) {
  own_ = stream_head(catch_up_->more_headers);
  append_opening(own_, shard_.options().retry, shard_.log().epoch(), position, catch_up_->channels);
  catch_up_->opened = true;
}

void Stream::page_sent() {
  catch_up_->turn.leave();
  if (const auto& latest = catch_up_->latest) {
    latest->own_end = 0;
    if (latest->then) return go_live_at(*latest->then);
  }
  if (std::exchange(catch_up_->spared, false) && catch_up_->upto < shard_.memory().base)
    return carry_out(ReadPage{catch_up_->upto, kPageLimit});
  std::visit([this](const auto& step) { carry_out(step); },
             resume_on_page_sent(catch_up_->after, catch_up_->upto, shard_.memory()));
}

void Stream::spare_page(Clock::time_point now) {
  if (catch_up_->spared || !blocked_) return;
  // What is shown cannot be read again by its id.
  if (catch_up_->latest && own_sent_ < catch_up_->latest->own_end) return;
  if (now < stalled_since_ + shard_.options().blocked_timeout / kPagePatience) return;
  // Up to the end of the frame that is half sent; its id says where that is.
  const std::size_t at = own_.find("\n\n", own_sent_ < 2 ? 0 : own_sent_ - 2);
  if (at == std::string::npos) return;
  const std::size_t line = own_.rfind("\nid: ", at);
  if (line == std::string::npos) return;
  const auto id = parse_event_id(std::string_view(own_).substr(line + 5, at - line - 5));
  if (!id) return;
  own_.substr(own_sent_, at + 2 - own_sent_).swap(own_);  // lets go of the memory
  own_sent_ = 0;
  catch_up_->upto = id->position;
  catch_up_->spared = true;
  shard_.pages().hold(catch_up_->turn, own_.capacity());
}

// --- latest channels ---

// Takes the newest frames as of now, or as of `after` where this process has yet to hear of it; of
// what was taken before, only what is newer. False: the database is asked, and the stream goes on
// when it has answered.
bool Stream::take_state(std::uint64_t after) {
  Latest& latest = *catch_up_->latest;
  ShardLog& log = shard_.log();
  LatestPoint now = log.point();
  auto known =
      log.latest().look_up(latest.channels.latest, latest.point ? latest.point->segment : 0);
  const bool behind = after > now.position;
  if (behind) {
    now.position = after;
    known.missing = latest.channels.latest;
  }
  latest.asked = now;
  latest.known = std::move(known);
  latest.learn = !behind;
  if (latest.known.missing.empty()) {
    std::move(latest.known.frames.begin(), latest.known.frames.end(),
              std::back_inserter(latest.frames));
    latest.frames = merge_latest(std::move(latest.frames), {});
    latest.point = now;
    return true;
  }
  catch_up_->reading = true;
  latest.asking = true;
  shard_.pages().wait(catch_up_->turn);
  shard_.admit_pages();
  return false;
}

void Stream::read_state() {
  Latest& latest = *catch_up_->latest;
  latest.asking = false;
  LatestRequest request;
  request.channels = latest.known.missing;
  request.upto = latest.asked.position;
  const auto done = answer_to(&Stream::on_state);
  try {
    shard_.replay().read_latest(std::move(request), done);
  } catch (...) {
    done(std::nullopt);
  }
}

void Stream::on_state(std::optional<LatestPage> page) {
  if (closed_ || finishing_ || !catch_up_ || !catch_up_->reading) return;
  catch_up_->reading = false;
  Latest& latest = *catch_up_->latest;
  ShardLog& log = shard_.log();
  if (!page || page->head.epoch != log.epoch() || page->head.position < latest.asked.position)
    return carry_out(ComeBack{});
  if (latest.learn) log.latest().learn(latest.known, page->broadcasts, page->complete);
  if (latest.point)
    std::erase_if(page->broadcasts, [&](const Broadcast& broadcast) {
      return broadcast.position <= latest.point->position;
    });
  std::move(latest.known.frames.begin(), latest.known.frames.end(),
            std::back_inserter(latest.frames));
  latest.frames = merge_latest(std::move(latest.frames), page->broadcasts);
  latest.point = latest.asked;
  std::size_t bytes = 0;
  for (const LatestFramePtr& frame : latest.frames) bytes += frame->text.size();
  shard_.pages().hold(catch_up_->turn, bytes);
  if (latest.then) return go_live_at(*latest.then);
  start();
}

// The state has been read, or a part of it written: memory may have moved on meanwhile.
void Stream::go_live_at(std::uint64_t after) {
  Latest& latest = *catch_up_->latest;
  latest.then.reset();
  if (latest.channels.ordinary.empty() || after >= shard_.log().base())
    return carry_out(GoLive{after});
  catch_up_->after = catch_up_->upto = after;
  carry_out(ReadPage{after, kPageLimit});
}

void Stream::show_state(std::uint64_t position, std::size_t most_bytes) {
  if (!catch_up_->latest) return;
  Latest& latest = *catch_up_->latest;
  const std::size_t begin = own_.size();
  auto next = latest.frames.begin();
  for (; next != latest.frames.end() && own_.size() - begin < most_bytes; ++next) {
    append_shown(own_, **next, shard_.log().epoch(), position);
    shard_.count().frames_replayed.add();
  }
  latest.frames.erase(latest.frames.begin(), next);
  latest.own_end = own_.size();
}

}  // namespace spillway::sse
