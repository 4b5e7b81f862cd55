#include "processor/runner.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>
#include <vector>

#include "processor/backoff.hpp"
#include "processor/batch_size.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// NOTIFY is a hint; this is the guarantee.
constexpr milliseconds fallback_poll{1000};

// A listener that cannot connect must not keep the others from working.
constexpr milliseconds longest_registration{5000};

// From this many events on, or at the second batch in a row, inserts need not notify any more.
constexpr std::size_t busy_batch = 64;

milliseconds since(steady_clock::time_point begin) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
}

}  // namespace

Runner::Runner(RunnerShared shared, int number) : shared_(std::move(shared)), number_(number) {}

Runner::~Runner() {
  stop();
}

void Runner::start() {
  thread_ = std::jthread([this] { run(); });
}

void Runner::request_stop() {
  stopping_ = true;
  shared_.wake->signal();
}

void Runner::stop() {
  request_stop();
  if (thread_.joinable()) thread_.join();
}

void Runner::run() {
  Backoff backoff;
  bool away = false;
  await_registration();
  while (!stopping_) {
    try {
      PgConnection connection(shared_.target);
      if (std::exchange(away, false)) {
        shared_.marks->forget();
        shared_.log("the database is back");
      }
      backoff.reset();
      work(connection);
    } catch (const std::exception& error) {  // the border: whatever it was, begin anew
      if (!std::exchange(away, true))
        shared_.log(std::string("the database is away, waiting for it: ") + error.what());
      shared_.connection_was_lost();
      sleep(backoff.next());
    }
  }
}

// A process whose end nobody would notice could begin the same batch again and again.
void Runner::await_registration() {
  const auto begin = steady_clock::now();
  while (!stopping_ && shared_.registered && !shared_.registered() &&
         since(begin) < longest_registration)
    shared_.wake->wait(shared_.wake->count(), milliseconds(5));
}

void Runner::sleep(milliseconds most) {
  const auto begin = steady_clock::now();
  for (auto left = most; left.count() > 0 && !stopping_; left = most - since(begin))
    shared_.wake->wait(shared_.wake->count(), left);
}

// The loop of a connection. Asleep means: armed, and a whole sweep after that found nothing. The
// sweep counts only once its xmin has reached an xid given after the arming: an insert that was in
// flight then may have read "not armed".
void Runner::work(PgConnection& connection) {
  std::random_device seed;
  Batch batch(connection, *shared_.handlers, *shared_.marks, shared_.batch, shared_.sinks,
              (static_cast<std::uint64_t>(seed()) << 32) ^ seed());
  QueueStore store(connection);
  BatchSize size(shared_.most_events);
  bool careful = false;
  bool sweep = true;  // take every lane that is free: nothing was found last time
  int busy = 0;       // batches in a row that found something
  int troubles = 0;
  std::size_t first_lane = static_cast<std::size_t>(number_) * 3 % lane_count;
  bool armed = false;
  std::uint64_t armed_bound = 0;
  milliseconds rest = fallback_poll;  // until the next poll, or something scheduled is due
  milliseconds pause{1};

  while (!stopping_) {
    const std::uint64_t signals = shared_.wake->count();
    const auto share = static_cast<std::size_t>(std::max(
        1, (lane_count + shared_.live_runners() - 1) / std::max(1, shared_.live_runners())));
    const std::size_t lanes = sweep ? lane_count : share;
    std::vector<int> order(lane_count);
    for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = static_cast<int>((first_lane + i) % lane_count);
    first_lane = (first_lane + lanes) % lane_count + (lanes == lane_count ? 1 : 0);

    const auto begin = steady_clock::now();
    const BatchResult result = batch.run(order, lanes, size.next(), careful);
    if (result.outcome != BatchResult::Outcome::committed) {
      size.failed();
      careful = result.outcome == BatchResult::Outcome::careful_next;
      if (++troubles > 3) sleep(std::min(milliseconds(1000), milliseconds(10) * troubles));
      continue;
    }
    troubles = 0;
    careful = false;

    if (result.taken > 0 || result.suspected) {
      size.succeeded(result.taken, since(begin));
      shared_.counters->batches.fetch_add(1, std::memory_order_relaxed);
      shared_.counters->done.fetch_add(result.done, std::memory_order_relaxed);
      shared_.counters->retried.fetch_add(result.retried, std::memory_order_relaxed);
      shared_.counters->dead.fetch_add(result.dead, std::memory_order_relaxed);
      ++busy;
      sweep = false;
      armed = false;
      // Whoever armed it: a sibling that sleeps arms it anew at every poll.
      if (result.armed && (busy > 1 || result.taken >= busy_batch)) {
        store.disarm();
        // There is more than one runner's worth: the siblings need not wait for their poll.
        shared_.wake->signal();
      }
      continue;
    }
    busy = 0;
    if (!std::exchange(sweep, true)) continue;  // only its own share was empty: look everywhere

    if (!armed) {
      const QueueStore::Armed state = store.arm();
      armed = true;
      armed_bound = state.bound;
      rest = std::min(fallback_poll, state.next_due.value_or(fallback_poll) + milliseconds(1));
      pause = milliseconds(1);
      continue;  // and look once more
    }
    if (result.xmin < armed_bound) {
      // Some transaction that was there at the arming still runs. It may be anybody's, and long, so
      // the pauses grow.
      shared_.wake->wait(signals, pause);
      pause = std::min(fallback_poll, pause * 3 / 2 + milliseconds(1));
      if (pause == fallback_poll) armed = false;
      continue;
    }
    shared_.wake->wait(signals, rest);
    armed = false;  // re-arm at every poll: a worker that died disarmed costs one poll at most
  }
}

}  // namespace spillway
