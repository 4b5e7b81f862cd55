#include "processor/feed.hpp"

#include <chrono>
#include <utility>

#include "processor/backoff.hpp"
#include "processor/outbox_reader.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds poll_interval{1000};
// A hole is mostly another runner of this process that has committed and not yet handed over.
constexpr milliseconds hole_patience{10};
constexpr std::size_t page = 1000;

}  // namespace

Feed::Feed(PgTarget target, sse::Hub& hub, Wake& wake, std::function<void(const std::string&)> log)
    : target_(std::move(target)), hub_(hub), wake_(wake), log_(std::move(log)) {}

Feed::~Feed() {
  stop();
}

void Feed::start() {
  hub_.on_gap([this] { wake_.signal(); });
  thread_ = std::jthread([this] { run(); });
}

void Feed::stop() {
  stopping_ = true;
  wake_.signal();
  if (thread_.joinable()) thread_.join();
}

void Feed::run() {
  Backoff backoff;
  while (!stopping_) {
    try {
      PgConnection connection(target_);
      backoff.reset();
      follow(connection);
    } catch (const std::exception&) {  // runners say it in the log
      const std::uint64_t seen = wake_.count();
      if (!stopping_) wake_.wait(seen, backoff.next());
    }
  }
}

void Feed::follow(PgConnection& connection) {
  OutboxReader reader(connection);
  if (!hub_.started()) hub_.start(reader.line().head);
  while (!stopping_) {
    const std::uint64_t seen = wake_.count();
    catch_up(reader);
    const Woken woken = wake_.wait(seen, poll_interval);
    wakes_.add(woken);
    if (woken == Woken::poll || stopping_) continue;
    if (!hub_.has_gap()) continue;
    const std::uint64_t now = wake_.count();
    wake_.wait(now, hole_patience);
  }
}

void Feed::catch_up(OutboxReader& reader) {
  for (bool more = true; more && !stopping_;) {
    const sse::Head known = hub_.head();
    OutboxReader::Tail tail = reader.read_after(known, page);
    if (tail.head.epoch != known.epoch) {
      log_("the database has another line of positions (epoch " + tail.head.epoch + " instead of " +
           known.epoch + "): every stream starts over");
      hub_.start(tail.head);
      return;
    }
    if (tail.head.position < known.position) {
      log_("the outbox went back from position " + std::to_string(known.position) + " to " +
           std::to_string(tail.head.position) +
           ": the database lost commits; every stream starts over");
      hub_.start(reader.renew_epoch(known));
      return;
    }
    if (known.position < tail.floor) {
      log_("the outbox is no longer kept from position " + std::to_string(known.position + 1) +
           " to " + std::to_string(tail.floor) +
           ": this process was away for too long, every stream comes back and is reset");
      hub_.skip(tail.floor);
      more = true;
      continue;
    }
    if (tail.lost_ephemeral > 0) hub_.skip_ephemeral(tail.lost_ephemeral);
    if (!tail.batch.broadcasts.empty()) hub_.publish(std::move(tail.batch));
    more = tail.more;
  }
}

}  // namespace spillway
