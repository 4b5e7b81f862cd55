// The wake protocol against PostgreSQL itself: runners whose fallback poll is a minute away, and
// writers who insert around the moments of arming. After each round nobody inserts any more, so an
// event that was missed would lie there until that poll.
//
// SPILLWAY_ARM_CYCLES=200000 makes it long; SPILLWAY_TEST_SEED repeats a run's choices.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "processor/lane_setting.hpp"
#include "processor/listener.hpp"
#include "processor/runner.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/seed.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds far_away{60'000};
constexpr int writers = 3;

std::uint64_t wanted_cycles() {
  const char* given = std::getenv("SPILLWAY_ARM_CYCLES");  // NOLINT(concurrency-mt-unsafe)
  return given != nullptr ? std::stoull(given) : 300;
}

WorkerDescription described(int runners) {
  WorkerDescription worker;
  worker.runners = runners;
  return worker;
}

// Two of them in one process, as it were, and one in another: a listener and marks of their own.
struct RunnersOfAProcess {
  RunnersOfAProcess(const Database& database, const HandlerSet& handlers, int count)
      : listener({database.target(), described(count), [](const std::string&) {}}, wake,
                 broadcasts) {
    RunnerShared shared;
    shared.target = database.target();
    shared.handlers = &handlers;
    shared.marks = &marks;
    shared.wake = &wake;
    shared.linger = &linger;
    shared.counters = &counters;
    shared.live_runners = [this] { return listener.live_runners(); };
    shared.connection_was_lost = [] {};
    shared.give_up = [](const std::exception_ptr&) { ADD_FAILURE() << "a runner gave up"; };
    shared.log = [](const LogLine& line) { ADD_FAILURE() << line.message; };
    shared.most_events = 5;
    shared.idle.fallback_poll = far_away;
    shared.idle.busy_batch = 3;
    listener.start();
    for (int i = 0; i < count; ++i) runners.push_back(std::make_unique<Runner>(shared, i));
    for (auto& runner : runners) runner->start();
  }
  ~RunnersOfAProcess() {
    for (auto& runner : runners) runner->request_stop();
    for (auto& runner : runners) runner->stop();
    listener.stop();
  }
  RunnersOfAProcess(const RunnersOfAProcess&) = delete;
  RunnersOfAProcess& operator=(const RunnersOfAProcess&) = delete;

  Wake wake;
  Wake broadcasts;
  LaneMarks marks{most_lanes};
  Linger linger;
  RunnerCounters counters;
  Listener listener;
  std::vector<std::unique_ptr<Runner>> runners;
};

// A round: every writer has a transaction or two, at moments of its own.
class Writer {
 public:
  Writer(const PgTarget& target, std::uint64_t seed) : connection_(target), random_(seed) {}

  // The number of events that it committed.
  std::uint64_t round(int longest_ms) {
    std::uint64_t committed = 0;
    const auto rest = [&](int most_us) {
      std::this_thread::sleep_for(std::chrono::microseconds(at_most(most_us)));
    };
    for (int transactions = at_most(2); transactions > 0; --transactions) {
      rest(at_most(3) == 0 ? 3000 : 700);
      if (at_most(2) == 0) {
        committed += insert();
        continue;
      }
      connection_.exec("BEGIN");
      std::uint64_t inserted = insert();
      rest(at_most(9) == 0 ? longest_ms * 1000 : 1500);
      if (at_most(3) == 0) inserted += insert();
      rest(300);
      const bool keep = at_most(7) != 0;
      connection_.exec(keep ? "COMMIT" : "ROLLBACK");
      if (keep) committed += inserted;
    }
    return committed;
  }

 private:
  int at_most(int most) { return std::uniform_int_distribution<int>(0, most)(random_); }
  std::uint64_t insert() {
    const int rows = at_most(9) == 0 ? 1 + at_most(12) : 1;
    connection_.exec("INSERT INTO spillway.events (type) SELECT 'E' FROM generate_series(1, " +
                     std::to_string(rows) + ")");
    return static_cast<std::uint64_t>(rows);
  }

  PgConnection connection_;
  std::mt19937_64 random_;
};

TEST(ArmedWake, NoEventWaitsForAPollThatIsAMinuteAway) {
  const std::uint64_t seed = printed_seed();
  const std::uint64_t cycles = wanted_cycles();
  Database database;
  database.query("ALTER DATABASE " + database.value("SELECT current_database()") +
                 " SET synchronous_commit = off");  // more rounds in the same time
  Registry registry;
  registry.on("E", [](const Event&) { return Result(); });
  const HandlerSet handlers(std::make_shared<const Registry>(std::move(registry)));

  RunnersOfAProcess one(database, handlers, 2);
  RunnersOfAProcess two(database, handlers, 1);
  const auto armings = [&] { return one.counters.armings + two.counters.armings; };
  const auto done = [&] { return one.counters.done + two.counters.done; };

  const std::vector<int> lanes{1, 16, 3, 8};
  std::uint64_t committed = 0, rounds = 0;
  clock::duration longest{};
  std::vector<std::unique_ptr<Writer>> all;
  all.reserve(writers);
  for (int i = 0; i < writers; ++i)
    all.push_back(
        std::make_unique<Writer>(database.target(), seed + static_cast<std::uint64_t>(i)));
  for (; armings() < cycles; ++rounds) {
    // Long transactions now and then: the runners' pauses grow while one runs.
    const int longest_ms = rounds % 50 == 0 ? 200 : 4;
    std::atomic<std::uint64_t> added{0};
    {
      std::vector<std::jthread> threads;
      threads.reserve(writers);
      for (auto& writer : all) threads.emplace_back([&] { added += writer->round(longest_ms); });
      // Who sleeps has looked into the lanes that there were.
      if (rounds % 20 == 10)
        threads.emplace_back([&] {
          PgConnection connection(database.target());
          set_lanes(connection, lanes[rounds / 20 % lanes.size()]);
        });
    }
    committed += added;
    const auto begin = clock::now();
    while (done() < committed && clock::now() - begin < far_away / 2)
      std::this_thread::sleep_for(50us);
    longest = std::max(longest, clock::now() - begin);
    ASSERT_EQ(done(), committed) << "an event waits for the poll, in round " << rounds;
  }
  std::cout << "[  wakes   ] " << rounds << " rounds, " << committed << " events, " << armings()
            << " arm cycles; the longest wait for the last event of a round was "
            << std::chrono::duration_cast<std::chrono::milliseconds>(longest).count() << " ms"
            << std::endl;
  EXPECT_GT(committed, 0u);
}

}  // namespace
}  // namespace spillway::test
