#include "processor/runner.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>
#include <vector>

#include "processor/backoff.hpp"
#include "processor/batch_size.hpp"
#include "processor/migrator.hpp"
#include "processor/pg_connection.hpp"
#include "processor/pg_pipeline.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Looks in a row that may leave everything to another turn: every kind of turn has come several
// times.
constexpr int longest_blocked = 64;

// A listener that cannot connect must not keep the others from working.
constexpr milliseconds longest_registration{5000};

// A batch that takes longer is more than one runner's worth: siblings are called.
constexpr milliseconds longest_light{40};

// How long siblings rely on a look that was promised, when it does not come.
constexpr milliseconds longest_patience{100};

// Statements are planned for the tables as they are when they are first run, and a plan for an
// empty log reads the whole of a full one. So plans are made anew after this many events, and after
// eight times as many, up to the last.
constexpr std::uint64_t first_replan = 64;
constexpr std::uint64_t last_replan = 1u << 21;

// An arming is in force for so many polls; it is prolonged when half of them are over.
constexpr int polls_armed = 10;

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
      const std::unique_ptr<SqlSession> session = connect();
      if (std::exchange(away, false)) {
        shared_.marks->forget();
        shared_.log({LogLevel::info, "the database is back"});
      }
      backoff.reset();
      work(*session);
    } catch (const SchemaVersionError&) {
      return shared_.give_up(std::current_exception());
    } catch (const PoolerError&) {
      return shared_.give_up(std::current_exception());
    } catch (const std::exception& error) {  // the border: whatever it was, begin anew
      if (!std::exchange(away, true))
        shared_.log(std::string("the database is away, waiting for it: ") + error.what());
      shared_.connection_was_lost();
      sleep(backoff.next());
    }
  }
}

std::unique_ptr<SqlSession> Runner::connect() {
  PgTarget target = shared_.target;
  if (target.pooler != Pooler::transaction) {
    auto session = std::make_unique<PgPipeline>(target);
    if (!session->pooled()) return session;
    target.pooler = Pooler::transaction;
  }
  return std::make_unique<PgConnection>(target);
}

// A process whose end nobody would notice could begin the same batch again and again.
void Runner::await_registration() {
  const auto begin = steady_clock::now();
  while (!stopping_ && shared_.registered && !shared_.registered() &&
         since(begin) < longest_registration)
    shared_.wake->wait(shared_.wake->count(), milliseconds(5));
}

void Runner::sleep(milliseconds most) {
  shared_.wake->rest(most, [this] { return stopping_.load(); });
}

// Until a signal comes, or no sibling's promise holds any more.
void Runner::rely(std::uint64_t signals) {
  while (!stopping_) {
    const auto now = steady_clock::now();
    const auto until = shared_.linger->of_sibling(number_, now);
    if (!until) return;
    const auto most = std::chrono::ceil<milliseconds>(*until - now);
    if (shared_.wake->wait(signals, most) != Woken::poll) return;
  }
}

// The loop of a connection; idle_protocol.hpp says what follows a batch.
void Runner::work(SqlSession& session) {
  std::random_device seed;
  Batch batch(session, *shared_.handlers, *shared_.marks, shared_.batch, shared_.sinks,
              (static_cast<std::uint64_t>(seed()) << 32) ^ seed());
  QueueStore store(session);
  BatchSize size(shared_.most_events);
  IdleProtocol idle(shared_.idle);
  // However this ends, the siblings look for themselves.
  const auto leave = [this](const IdleProtocol*) {
    shared_.linger->withdraw(number_);
    shared_.wake->signal();
  };
  const std::unique_ptr<const IdleProtocol, decltype(leave)> left(&idle, leave);
  std::uint64_t handled = 0;
  std::uint64_t replan = first_replan;
  bool careful = false;
  int blocked = 0;  // looks in a row that must leave it to another turn
  int troubles = 0;
  RunnerMeter* const meter = shared_.sinks.meter;
  // As the last look has said. Nothing else hangs on it, so it does not matter when a runner hears
  // that there are more of them now, or fewer.
  std::size_t lane_count = most_lanes;
  std::size_t first_lane = static_cast<std::size_t>(number_) * 3;

  while (!stopping_) {
    if (shared_.looked) shared_.looked();
    const std::uint64_t signals = shared_.wake->count();
    const auto live = static_cast<std::size_t>(std::max(1, shared_.live_runners()));
    const std::size_t share = (lane_count + live - 1) / live;
    const std::size_t lanes = idle.sweep() ? lane_count : share;
    std::vector<int> order(lane_count);
    for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = static_cast<int>((first_lane + i) % lane_count);
    first_lane = (first_lane + lanes) % lane_count + (lanes == lane_count ? 1 : 0);

    const auto begin = steady_clock::now();
    const BatchResult result = batch.run(order, lanes, size.next(), careful);
    if (result.lane_count != 0) lane_count = result.lane_count;
    if (result.outcome != BatchResult::Outcome::committed) {
      if (meter != nullptr) meter->repeated.add();
      // What the fast way cannot do, the careful way does as a whole.
      const bool as_a_whole = careful || result.outcome == BatchResult::Outcome::again;
      if (as_a_whole && !result.waited_in_vain) size.failed(result.taken);
      careful = result.outcome == BatchResult::Outcome::careful_next;
      if (++troubles > 3) sleep(std::min(milliseconds(1000), milliseconds(10) * troubles));
      continue;
    }
    troubles = 0;
    // Where many fail the next ones are likely to, and being careful costs little where none does.
    careful = careful && (result.retried + result.dead) * 16 > result.taken;

    if (meter != nullptr) {
      meter->held.add(result.held);
      if (result.suspected) meter->suspect_steps.add();
      if (result.taken > 0) {
        const std::chrono::nanoseconds time = steady_clock::now() - begin;
        meter->batch_events.observe(result.taken);
        meter->batch_time.observe(static_cast<std::uint64_t>(time.count()));
      }
    }
    if (result.taken > 0) {
      handled += result.taken;
      if (handled >= replan && replan <= last_replan) {
        session.exec("DISCARD PLANS");
        while (replan <= handled) replan *= 8;
      }
      if (!result.waited_in_vain && !result.suspected) size.succeeded(result.taken, since(begin));
      shared_.counters->batches.fetch_add(1, std::memory_order_relaxed);
      shared_.counters->done.fetch_add(result.done, std::memory_order_relaxed);
      shared_.counters->retried.fetch_add(result.retried, std::memory_order_relaxed);
      shared_.counters->dead.fetch_add(result.dead, std::memory_order_relaxed);
    }
    blocked = result.blocked ? blocked + 1 : 0;
    if (blocked > 0 && blocked < longest_blocked) continue;
    IdleProtocol::Look look;
    look.taken = result.suspected ? std::max<std::size_t>(1, result.taken) : result.taken;
    look.all_lanes = result.lanes == order.size() && order.size() >= lane_count;
    look.armed = result.armed_left.count() > 0;
    look.lasting = result.armed_left > shared_.idle.fallback_poll * 2;
    look.complete = result.complete;
    look.xmin = result.xmin;
    look.heavy = look.taken > 0 &&
                 (careful || result.suspected || result.more || since(begin) > longest_light);
    const auto now = steady_clock::now();
    look.promised = shared_.linger->of_sibling(number_, now).has_value();
    const IdleProtocol::Next next = idle.after(look);
    bool promised = false;
    if (next.promise)
      promised = shared_.linger->promise(number_, now, now + next.most + longest_patience);
    else
      shared_.linger->withdraw(number_);
    // There is more than one runner's worth: the siblings need not wait for their poll.
    if (look.heavy) shared_.wake->signal();
    switch (next.step) {
      case IdleProtocol::Step::look:
        break;
      case IdleProtocol::Step::disarm:
        store.disarm();
        // Those that sleep believe that they will be notified.
        shared_.wake->signal();
        break;
      case IdleProtocol::Step::arm: {
        const QueueStore::Armed state =
            store.arm(shared_.idle.fallback_poll * polls_armed, idle.needs_bound());
        idle.armed(state.bound, state.next_due);
        shared_.counters->armings.fetch_add(1, std::memory_order_relaxed);
        break;
      }
      case IdleProtocol::Step::linger:
        if (promised) {
          sleep(next.most);
          break;
        }
        [[fallthrough]];
      case IdleProtocol::Step::rely:
        rely(signals);
        break;
      case IdleProtocol::Step::pause:
      case IdleProtocol::Step::sleep:
        if (const Woken woken = shared_.wake->wait(signals, next.most); meter != nullptr)
          meter->wakes.add(woken);
        break;
    }
  }
}

}  // namespace spillway
