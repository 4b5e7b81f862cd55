// Retry, discard and held streams: the functions, against batches that run at the same moment.
#include "processor/dead_letters.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>
#include <numeric>
#include <random>
#include <set>

#include "processor/batch.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;
using test::eventually;

const std::string behind_1 =
    "held back by event 1 of the same stream, a dead letter: spillway.retry(1) or "
    "spillway.discard(1)";

class DeadLettersTest : public testing::Test {
 protected:
  DeadLettersTest() {
    database.query("CREATE TABLE ran (n serial, event bigint, attempt int)");
    // Nothing in these tests may wait for a lock; what does, fails.
    database.query("SET lock_timeout = '10s'");
    registry.on("Step", [this](const Event& event) {
      if (during_handler) during_handler(event);
      {
        const std::scoped_lock lock(mutex);
        if (bad.contains(event.id))
          throw std::runtime_error("no luck with " + std::to_string(event.id));
      }
      return Effects{Insert{"ran", {{"event", event.id}, {"attempt", event.attempt}}}};
    });
    registry.on("BadColumn", [](const Event&) { return Effects{Insert{"ran", {{"w", 1}}}}; });
    registry.on("Conflict", [](const Event&) {
      return Effects{Insert{"ran", {{"n", 1}, {"event", 1}}}, Insert{"ran", {{"n", "x"}}}};
    });
    options.retry.max_attempts = 2;
    options.retry.base = std::chrono::milliseconds(0);
    sinks.others_listen = [this] {
      if (before_commit) before_commit();
      return false;
    };
  }

  // Returns the id.
  long long insert(const std::string& stream = "", const std::string& type = "Step") {
    return database.number("INSERT INTO spillway.events (type, stream) VALUES ('" + type +
                           "', nullif('" + stream + "', '')) RETURNING id");
  }

  BatchResult run_once(std::size_t limit = 100) {
    std::vector<int> lanes(lane_count);
    std::iota(lanes.begin(), lanes.end(), 0);
    if (!batch) batch = std::make_unique<Batch>(session, handlers, marks, options, sinks, 1);
    const BatchResult result = batch->run(lanes, lane_count, limit, careful);
    careful = result.outcome == BatchResult::Outcome::careful_next;
    return result;
  }

  // Batches until nothing is left that could be done now.
  void drain(std::size_t limit = 100) {
    for (int i = 0; i < 3000; ++i) {
      const BatchResult result = run_once(limit);
      if (result.outcome == BatchResult::Outcome::committed && result.taken == 0) return;
    }
    FAIL() << "does not come to an end";
  }

  void hold(bool on = true) {
    options.dead_holds_stream = on;
    batch.reset();
  }

  bool call(Database& from, const std::string& function, long long id) {
    return from.value("SELECT spillway." + function + "(" + std::to_string(id) + ")") == "t";
  }
  bool retry(long long id) { return call(database, "retry", id); }
  bool discard(long long id) { return call(database, "discard", id); }

  std::string ran() {
    return database.value("SELECT coalesce(string_agg(event::text, ' ' ORDER BY n), '') FROM ran");
  }
  std::string statuses() {
    return database.value(
        "SELECT string_agg(status, ' ' ORDER BY event_id) FROM spillway.event_status");
  }
  std::string note(long long id) {
    return database.value("SELECT last_error FROM spillway.event_status WHERE event_id = " +
                          std::to_string(id));
  }
  long long waiting() { return database.number("SELECT count(*) FROM spillway.waiting"); }

  // Event 1, dead; in hold mode it holds stream "s".
  void let_the_first_die() {
    ASSERT_EQ(insert("s"), 1);
    bad = {1};
    drain();
    ASSERT_EQ(statuses(), "dead");
    bad.clear();
  }

  Database database;
  PgConnection session{database.target()};
  std::shared_ptr<Registry> registry_owner = std::make_shared<Registry>();
  Registry& registry = *registry_owner;
  HandlerSet handlers{registry_owner};
  LaneMarks marks{lane_count};
  BatchOptions options;
  BatchSinks sinks;
  std::mutex mutex;
  std::set<std::int64_t> bad;                        // these throw
  std::function<void(const Event&)> during_handler;  // the batch has claimed, and not yet settled
  std::function<void()> before_commit;               // all is written, and not yet committed
  std::unique_ptr<Batch> batch;
  bool careful = false;
};

TEST_F(DeadLettersTest, ARetriedEventRunsBeforeThePendingEventsOfItsStreamWithAllItsAttempts) {
  insert("s");
  insert("s");
  bad = {1};
  drain();
  EXPECT_EQ(statuses(), "dead done");
  insert("s");
  insert("t");
  insert("s");
  EXPECT_TRUE(retry(1));
  EXPECT_EQ(statuses(), "pending done pending pending pending");
  EXPECT_EQ(database.value("SELECT attempts FROM spillway.event_status WHERE event_id = 1"), "0");
  bad.clear();
  drain();
  EXPECT_EQ(
      database.value("SELECT string_agg(event::text, ' ' ORDER BY n) FROM ran WHERE event <> 4"),
      "2 1 3 5");
  EXPECT_EQ(database.value("SELECT attempt FROM ran WHERE event = 1"), "1");
  EXPECT_EQ(statuses(), "done done done done done");
}

TEST_F(DeadLettersTest, ARetriedEventThatFailsHoldsItsStreamAndDiesAgainAfterAllItsAttempts) {
  let_the_first_die();
  bad = {1};
  EXPECT_TRUE(retry(1));
  insert("s");
  run_once();  // the first of its two attempts
  EXPECT_EQ(statuses(), "retrying pending");
  EXPECT_EQ(note(2), "held back by event 1 of the same stream");
  drain();
  EXPECT_EQ(statuses(), "dead done");
  EXPECT_EQ(database.value("SELECT attempts FROM spillway.dead_letters"), "2");
  EXPECT_EQ(waiting(), 0);
}

TEST_F(DeadLettersTest, OneAttemptMeansDeadAtTheFirstFailure) {
  database.query(
      "INSERT INTO spillway.events (type, stream, max_attempts) VALUES ('Step', 's', 1)");
  insert("s");
  bad = {1};
  EXPECT_EQ(run_once().dead, 1u);
  EXPECT_EQ(statuses(), "dead done");
  EXPECT_EQ(database.value("SELECT attempts FROM spillway.dead_letters"), "1");
}

TEST_F(DeadLettersTest, ADiscardedEventIsDoneAndNeverRuns) {
  let_the_first_die();
  EXPECT_TRUE(discard(1));
  EXPECT_EQ(statuses(), "done");
  EXPECT_EQ(database.value("SELECT concat(attempts, next_attempt_at, last_error) FROM "
                           "spillway.event_status"),
            "");
  EXPECT_FALSE(discard(1));
  EXPECT_FALSE(retry(1));
  drain();
  EXPECT_EQ(ran(), "");
}

TEST_F(DeadLettersTest, WhatIsNotDeadIsRefused) {
  insert();
  drain();
  insert();
  database.query(
      "INSERT INTO spillway.events (type, execute_at) VALUES ('Step', now() + interval '1 day')");
  EXPECT_EQ(statuses(), "done pending scheduled");
  for (const char* id : {"1", "2", "3", "99", "NULL"})
    for (const char* function : {"retry", "discard"})
      EXPECT_EQ(database.value("SELECT spillway." + std::string(function) + "(" + id + ")"), "f")
          << function << " " << id;
  EXPECT_EQ(statuses(), "done pending scheduled");
}

TEST_F(DeadLettersTest, AnEventThatWaitsForItsNextAttemptIsDueNow) {
  options.retry.base = std::chrono::hours(1);
  insert("s");
  insert("s");
  bad = {1};
  drain();
  EXPECT_EQ(statuses(), "retrying pending");
  drain();
  EXPECT_EQ(ran(), "");
  bad.clear();
  EXPECT_FALSE(discard(1));
  EXPECT_TRUE(retry(1));
  EXPECT_FALSE(retry(2)) << "it is held back, and has not failed";
  drain();
  EXPECT_EQ(ran(), "1 2");
  EXPECT_EQ(database.value("SELECT attempt FROM ran WHERE event = 1"), "2")
      << "its attempts count on";
}

TEST_F(DeadLettersTest, OnlyThoseWhoWereGivenTheRightMayCallThem) {
  let_the_first_die();
  database.query(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'night_shift') THEN"
      " CREATE ROLE night_shift; END IF; END$$");
  PgConnection other(database.target());
  other.exec("SET ROLE night_shift");
  EXPECT_THROW(other.exec("SELECT spillway.retry(1)"), SqlError);
  EXPECT_THROW(other.exec("SELECT spillway.discard(1)"), SqlError);
  database.query("GRANT EXECUTE ON FUNCTION spillway.retry(bigint) TO night_shift");
  EXPECT_TRUE(other.exec("SELECT spillway.retry(1)").boolean(0, 0));
  EXPECT_THROW(other.exec("SELECT spillway.discard(1)"), SqlError);
}

TEST_F(DeadLettersTest, ASleepingWorkerIsWokenAndABusyOneIsNot) {
  hold();
  let_the_first_die();
  insert("t");
  insert("u");
  bad = {2, 3};
  drain();
  int heard = 0;
  bool marked = false;
  PgConnection listener(database.target());
  listener.listen("spillway_events", [&] { ++heard; });
  listener.listen("mark", [&] { marked = true; });
  const auto notified = [&](const std::string& sql) {
    heard = 0;
    marked = false;
    EXPECT_EQ(database.value(sql), "t");
    database.query("NOTIFY mark");
    EXPECT_TRUE(eventually([&] {
      listener.poll_notifications();
      return marked;
    }));
    return heard;
  };
  database.query("SELECT setval('spillway.armed', 4102444800000)");
  EXPECT_EQ(notified("SELECT spillway.retry(1)"), 1);
  EXPECT_EQ(notified("SELECT spillway.discard(2)"), 1);
  database.query("SELECT setval('spillway.armed', 0)");
  EXPECT_EQ(notified("SELECT spillway.retry(3)"), 0);
}

TEST_F(DeadLettersTest, ADeadLetterHoldsItsStreamWhenAskedTo) {
  hold();
  for (const char* stream : {"s", "s", "t", "s", ""}) insert(stream);
  bad = {1, 5};
  drain();
  EXPECT_EQ(statuses(), "dead pending done pending dead");
  EXPECT_EQ(note(2), behind_1);
  EXPECT_EQ(note(4), behind_1);
  insert("s");  // those that come later wait too
  drain();
  EXPECT_EQ(note(6), behind_1);
  EXPECT_EQ(ran(), "3");
  EXPECT_EQ(database.value("SELECT concat_ws('/', attempts, next_attempt_at, last_error) FROM "
                           "spillway.event_status WHERE event_id = 1"),
            "2/event 1 (Step): the handler threw: no luck with 1");
  // A worker that releases leaves alone what is held.
  hold(false);
  drain();
  EXPECT_EQ(ran(), "3");
  bad.clear();
  EXPECT_TRUE(retry(1));
  EXPECT_EQ(note(2), "held back by event 1 of the same stream");
  drain();
  EXPECT_EQ(ran(), "3 1 2 4 6");
  EXPECT_EQ(waiting(), 0);
}

TEST_F(DeadLettersTest, AHeldStreamGoesOnWhenItsDeadLetterIsDiscarded) {
  hold();
  for (int i = 0; i < 3; ++i) insert("s");
  bad = {1, 2};
  drain();
  EXPECT_EQ(statuses(), "dead pending pending");
  EXPECT_TRUE(discard(1));
  EXPECT_EQ(statuses(), "done pending pending");
  EXPECT_FALSE(retry(1));
  EXPECT_FALSE(discard(1));
  drain();
  EXPECT_EQ(statuses(), "done dead pending");
  EXPECT_TRUE(discard(2));
  drain();
  EXPECT_EQ(ran(), "3");
  EXPECT_EQ(statuses(), "done done done");
  EXPECT_EQ(waiting(), 0);
}

TEST_F(DeadLettersTest, AnErrorOfTheDatabaseHoldsTheStreamToo) {
  hold();
  insert("s", "BadColumn");
  insert("s");
  insert("t", "Conflict");  // found under savepoints, by bisection
  insert("t");
  insert("u");
  drain();
  EXPECT_EQ(statuses(), "dead pending dead pending done");
  EXPECT_EQ(ran(), "5");
}

TEST_F(DeadLettersTest, AHeldStreamDoesNotKeepAWorkerAwake) {
  hold();
  let_the_first_die();
  insert("s");
  drain();
  QueueStore store(session);
  EXPECT_FALSE(store.arm(std::chrono::seconds(10)).next_due.has_value());
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  store.begin();
  EXPECT_FALSE(store.own_lanes(lanes, lane_count).waiting_due);
  store.rollback();
}

// One event of an overlapping transaction comes late, with a lower id than the dead letter's.
TEST_F(DeadLettersTest, AnEarlierEventThatComesLateIsNotHeld) {
  hold();
  PgConnection late(database.target());
  late.exec("BEGIN; INSERT INTO spillway.events (type, stream) VALUES ('Step', 's')");  // id 1
  insert("s");
  insert("s");
  bad = {2};
  drain();
  late.exec("COMMIT");
  drain();
  EXPECT_EQ(statuses(), "done dead pending");
  EXPECT_EQ(ran(), "1");
  bad.clear();
  EXPECT_TRUE(retry(2));
  drain();
  EXPECT_EQ(ran(), "1 2 3");
}

// The batch has claimed an event behind the dead letter and will put it into `waiting`: whenever
// the stream is let go meanwhile, the event must not be left there.
TEST_F(DeadLettersTest, NothingIsLeftBehindWhenAStreamIsLetGoDuringABatch) {
  hold();
  int number = 0;
  for (const char* function : {"discard", "retry"}) {
    for (const char* when : {"claimed", "settled"}) {
      for (const bool together : {false, true}) {  // in one transaction, or ended after the batch
        SCOPED_TRACE(std::string(function) + " when " + when + (together ? ", open" : ""));
        const std::string stream = "s" + std::to_string(++number);
        const auto dead = insert(stream);
        bad = {dead};
        drain();
        bad.clear();
        const auto held = insert(stream);
        insert("other");  // its handler runs while the batch holds the claim
        PgConnection client(database.target());
        client.exec("SET lock_timeout = '10s'");
        bool called = false;
        const auto act = [&] {
          if (std::exchange(called, true)) return;
          if (together) client.exec("BEGIN");
          EXPECT_TRUE(client
                          .exec("SELECT spillway." + std::string(function) + "(" +
                                std::to_string(dead) + ")")
                          .boolean(0, 0));
        };
        if (when == std::string("claimed"))
          during_handler = [&](const Event&) { act(); };
        else
          before_commit = act;
        EXPECT_EQ(run_once().held, 1u);
        during_handler = nullptr;
        before_commit = nullptr;
        EXPECT_TRUE(called);
        if (together) {
          drain();  // nothing to see yet, and nothing to wait for
          EXPECT_EQ(
              database.number("SELECT count(*) FROM ran WHERE event = " + std::to_string(held)), 0);
          client.exec("COMMIT");
        }
        drain();
        EXPECT_EQ(waiting(), 0);
        EXPECT_EQ(database.value("SELECT string_agg(event::text, ' ' ORDER BY n) FROM ran WHERE "
                                 "event IN (" +
                                 std::to_string(dead) + "," + std::to_string(held) + ")"),
                  (function == std::string("retry") ? std::to_string(dead) + " " : "") +
                      std::to_string(held));
      }
    }
  }
}

TEST_F(DeadLettersTest, ACallThatIsRolledBackChangesNothing) {
  hold();
  let_the_first_die();
  insert("s");
  for (const char* function : {"retry", "discard"}) {
    PgConnection client(database.target());
    client.exec("BEGIN");
    client.exec("SELECT spillway." + std::string(function) + "(1)");
    drain();
    client.exec("ROLLBACK");
    drain();
    EXPECT_EQ(statuses(), "dead pending") << function;
    EXPECT_EQ(ran(), "");
  }
}

// While the release-mode stream runs on: a batch is at work on its later events.
TEST_F(DeadLettersTest, ARetryDuringABatchOfItsStreamRunsAfterThatBatch) {
  let_the_first_die();
  insert("s");
  bool called = false;
  during_handler = [&](const Event&) {
    if (std::exchange(called, true)) return;
    EXPECT_TRUE(retry(1));
  };
  EXPECT_EQ(run_once().done, 1u);
  insert("s");
  drain();
  EXPECT_EQ(ran(), "2 1 3");
}

// A batch that is just giving the event up: the call waits for its verdict, and revives the event.
TEST_F(DeadLettersTest, ARetryOfAnEventThatIsJustDyingRevivesIt) {
  insert("s");
  bad = {1};
  run_once();
  EXPECT_EQ(statuses(), "retrying");
  Database* db = &database;
  std::future<bool> answer;
  before_commit = [&] {
    answer = std::async(std::launch::async, [db] {
      PgConnection client(db->target());
      return client.exec("SELECT spillway.retry(1)").boolean(0, 0);
    });
    ASSERT_TRUE(eventually([&] {
      return database.number(
                 "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                 " WHERE NOT l.granted AND a.datname = current_database()") > 0;
    }));
  };
  EXPECT_EQ(run_once().dead, 1u);
  before_commit = nullptr;
  EXPECT_TRUE(answer.get());
  bad.clear();
  drain();
  EXPECT_EQ(ran(), "1");
  EXPECT_EQ(statuses(), "done");
}

TEST_F(DeadLettersTest, OfTwoRetriesAtOnceOneCountsAndTheEventRunsOnce) {
  let_the_first_die();
  PgConnection first(database.target());
  first.exec("BEGIN");
  EXPECT_TRUE(first.exec("SELECT spillway.retry(1)").boolean(0, 0));
  auto second = std::async(std::launch::async, [this] {
    PgConnection client(database.target());
    return client.exec("SELECT spillway.retry(1)").boolean(0, 0);
  });
  EXPECT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
               " WHERE NOT l.granted AND a.datname = current_database()") > 0;
  }));
  first.exec("COMMIT");
  EXPECT_FALSE(second.get());
  drain();
  EXPECT_EQ(ran(), "1");
}

// Also under an isolation level whose snapshot is older than what the batch has put behind it.
TEST_F(DeadLettersTest, AnOldSnapshotDoesNoHarm) {
  hold();
  let_the_first_die();
  for (const char* function : {"discard", "retry"}) {
    PgConnection client(database.target());
    client.exec("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM spillway.waiting");
    const auto held = insert("s");
    drain();
    EXPECT_TRUE(client
                    .exec("SELECT spillway." + std::string(function) +
                          "((SELECT min(event_id) FROM spillway.dead_letters))")
                    .boolean(0, 0));
    client.exec("COMMIT");
    bad = {held};
    drain();
    bad.clear();
    EXPECT_EQ(database.value("SELECT string_agg(status, ' ') FROM spillway.event_status WHERE "
                             "event_id = " +
                             std::to_string(held)),
              "dead");
  }
}

TEST_F(DeadLettersTest, ManyRetriedEventsOfAStreamWaitForTheFirstWithoutBeingLookedAt) {
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'BadColumn', 's' FROM "
      "generate_series(1, 500)");
  drain(1000);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 500);
  options.retry.base = std::chrono::hours(1);
  batch.reset();
  registry.on("Later", [](const Event&) -> Effects { throw std::runtime_error("later"); });
  const auto last = insert("s", "Later");
  drain();
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.waiting"), 1) << "it waits for an hour";
  EXPECT_EQ(database.number("SELECT count(spillway.retry(event_id)) FROM spillway.dead_letters"),
            500);
  // The handlers fail in a way that is worth another attempt now.
  auto changed = std::make_shared<Registry>();
  changed->on("BadColumn", [](const Event&) -> Effects { throw std::runtime_error("not yet"); });
  handlers.replace(changed);
  drain();
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || count(due_at) || ' ' || min(event_id) FILTER "
                           "(WHERE due_at IS NOT NULL) FROM spillway.waiting"),
            "501 1 1");
  EXPECT_EQ(note(2), "held back by event 1 of the same stream");
  EXPECT_EQ(database.value("SELECT status FROM spillway.event_status WHERE event_id = " +
                           std::to_string(last)),
            "retrying");
  // Mended: all of them run, in order, the retrying one too.
  auto mended = std::make_shared<Registry>();
  mended->on("*", [](const Event& event) { return Effects{Insert{"ran", {{"event", event.id}}}}; });
  handlers.replace(mended);
  EXPECT_TRUE(retry(1));
  drain();
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || bool_and(event = n) FROM (SELECT event, "
                           "row_number() OVER (ORDER BY n) AS n FROM ran) r"),
            "501 true");
  EXPECT_EQ(waiting(), 0);
}

TEST_F(DeadLettersTest, ManyRetriesLeaveRoomInABatchForWhatIsNew) {
  database.query(
      "INSERT INTO spillway.events (type) SELECT 'BadColumn' FROM generate_series(1, 50)");
  drain();
  EXPECT_EQ(database.number("SELECT count(spillway.retry(event_id)) FROM spillway.dead_letters"),
            50);
  const auto fresh = insert();
  run_once(10);
  EXPECT_EQ(ran(), std::to_string(fresh));
}

// Two batches at once, a client that retries and discards at random, workers of both modes: every
// event runs once or is discarded, and nothing is left.
TEST_F(DeadLettersTest, RandomRetriesAndDiscardsLoseAndDoubleNothing) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  constexpr int events = 1500;
  database.query("CREATE UNIQUE INDEX once ON ran (event)");
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'Step', CASE WHEN g % 5 > 0 THEN "
      "'s' || (g * 7 % 11) END FROM generate_series(1, " +
      std::to_string(events) + ") g");
  for (int id = 1; id <= events; id += 7) bad.insert(id);

  std::atomic<bool> stop{false};
  const auto work = [&](std::uint64_t number) {
    PgConnection connection(database.target());
    std::mt19937_64 random(seed + number);
    BatchOptions own = options;
    bool again = false;
    std::unique_ptr<Batch> own_batch;
    while (!stop) {
      if (!own_batch || random() % 8 == 0) {
        own.dead_holds_stream = random() % 2 == 0;
        own_batch = std::make_unique<Batch>(connection, handlers, marks, own, sinks, random());
      }
      std::vector<int> lanes(lane_count);
      std::iota(lanes.begin(), lanes.end(), 0);
      std::shuffle(lanes.begin(), lanes.end(), random);
      const auto result =
          own_batch->run(lanes, 1 + random() % lane_count, 1 + random() % 20, again);
      again = result.outcome == BatchResult::Outcome::careful_next;
    }
  };
  std::vector<std::future<void>> workers;
  for (std::uint64_t i = 1; i <= 2; ++i) workers.push_back(std::async(std::launch::async, work, i));

  std::mt19937_64 random(seed);
  std::set<long long> discarded;
  PgConnection client(database.target());
  const auto dead = [&] { return dead_ids(client, {}, 0, 1000); };
  for (int i = 0; i < 400; ++i) {
    const auto ids = dead();
    if (ids.empty()) continue;
    const std::int64_t id = ids[random() % ids.size()];
    const auto kind = random() % 3;
    if (kind == 0) {
      const std::scoped_lock lock(mutex);
      bad.erase(id);
    }
    client.exec("BEGIN");
    const bool gone = kind == 2 && random() % 4 == 0;
    const bool done = client
                          .exec(std::string("SELECT spillway.") + (gone ? "discard(" : "retry(") +
                                std::to_string(id) + ")")
                          .boolean(0, 0);
    if (random() % 4 == 0) {
      client.exec("ROLLBACK");
    } else {
      client.exec("COMMIT");
      if (gone && done) discarded.insert(id);
    }
  }
  {
    const std::scoped_lock lock(mutex);
    bad.clear();
  }
  EXPECT_TRUE(eventually(
      [&] {
        static_cast<void>(act_on_dead(client, DeadAction::retry, dead()));
        return client
            .exec(
                "SELECT NOT EXISTS (SELECT FROM spillway.queue) AND NOT EXISTS (SELECT FROM "
                "spillway.waiting) AND NOT EXISTS (SELECT FROM spillway.dead_letters)")
            .boolean(0, 0);
      },
      std::chrono::seconds(60)))
      << database.value("SELECT string_agg(w::text, E'\\n') FROM spillway.waiting w");
  stop = true;
  for (auto& worker : workers) worker.get();
  EXPECT_EQ(database.number("SELECT count(*) FROM ran"),
            events - static_cast<long long>(discarded.size()));
  for (const long long id : discarded)
    EXPECT_EQ(database.number("SELECT count(*) FROM ran WHERE event = " + std::to_string(id)), 0);
}

// With hold alone the order of a stream is kept whatever is retried when.
TEST_F(DeadLettersTest, AHeldStreamRunsInOrderThroughAnyRetries) {
  hold();
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'Step', 's' || (g % 4) FROM "
      "generate_series(1, 200) g");
  for (int id = 1; id <= 200; id += 9) bad.insert(id);
  for (int round = 0; round < 60 && !bad.empty(); ++round) {
    drain(7);
    const auto ids = dead_ids(session, {}, 0, 1000);
    ASSERT_FALSE(ids.empty());
    for (const std::int64_t id : ids) {
      if (round % 2 == 1) bad.erase(id);  // every second round: retried in vain
      EXPECT_TRUE(retry(id));
    }
  }
  drain(7);
  EXPECT_EQ(database.number("SELECT count(*) FROM ran"), 200);
  EXPECT_EQ(
      database.number("SELECT count(*) FROM ran a JOIN ran b ON b.n > a.n AND b.event < a.event "
                      "AND b.event % 4 = a.event % 4"),
      0);
  EXPECT_EQ(waiting(), 0);
}

class DeadFilterTest : public testing::Test {
 protected:
  DeadFilterTest() {
    database.query(R"(
      INSERT INTO spillway.events (type, stream, payload)
      SELECT CASE WHEN g % 2 = 0 THEN 'Even' ELSE 'Odd (1)' END, CASE WHEN g < 4 THEN 's' END,
             jsonb_build_object('n', g) FROM generate_series(1, 10) g;
      DELETE FROM spillway.queue;
      INSERT INTO spillway.dead_letters (event_id, error, sqlstate, attempts, failed_at)
      SELECT id, format('event %s (%s): ', id, type)
                 || CASE WHEN id = 9 THEN E'Could not reach 10.0.0.7:80\nsecond line'
                         ELSE format('Key (n)=(%s) of 7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b1%s', id, id % 10) END,
             CASE WHEN id < 9 THEN '2350' || id % 3 END, 5, '2026-01-31 12:00:00+00'::timestamptz + id * interval '1 hour'
      FROM spillway.events)");
  }
  std::string ids(const DeadFilter& filter, std::size_t limit = 100) {
    std::string text;
    for (const DeadLetter& letter : read_dead(session, filter, limit))
      text += (text.empty() ? "" : " ") + std::to_string(letter.event_id);
    EXPECT_EQ(count_dead(session, filter),
              static_cast<std::int64_t>(read_dead(session, filter, 1000).size()));
    return text;
  }
  Database database;
  PgConnection session{database.target()};
};

TEST_F(DeadFilterTest, TheNewestComeFirst) {
  EXPECT_EQ(ids({}), "10 9 8 7 6 5 4 3 2 1");
  EXPECT_EQ(ids({}, 3), "10 9 8");
  const DeadLetter letter = read_dead(session, {}, 10).at(9);
  EXPECT_EQ(letter.type, "Odd (1)");
  EXPECT_EQ(letter.stream, "s");
  EXPECT_EQ(letter.attempts, 5);
  EXPECT_EQ(letter.sqlstate, "23501");
  EXPECT_EQ(letter.failed_at, "2026-01-31T13:00:00.000000Z");
  EXPECT_FALSE(letter.holds_stream);
}

TEST_F(DeadFilterTest, EachFilterNarrows) {
  DeadFilter filter;
  filter.types = {"Even"};
  EXPECT_EQ(ids(filter), "10 8 6 4 2");
  filter.types = {"Even", "Odd (1)", "Other"};
  EXPECT_EQ(ids(filter), "10 9 8 7 6 5 4 3 2 1");
  filter.types = {"Odd (1)"};
  filter.error = "KEY (N)=";
  EXPECT_EQ(ids(filter), "7 5 3 1");
  filter.error = "%";
  EXPECT_EQ(ids(filter), "");
  filter = {};
  filter.sqlstate = "23501";
  EXPECT_EQ(ids(filter), "7 4 1");
  filter.sqlstate = "23";
  EXPECT_EQ(ids(filter), "8 7 6 5 4 3 2 1");
  filter.sqlstate = "none";
  EXPECT_EQ(ids(filter), "10 9");
  filter = {};
  filter.stream = "s";
  EXPECT_EQ(ids(filter), "3 2 1");
  filter = {};
  filter.since = time_of(session, "2026-01-31T14:00:00Z");
  filter.until = time_of(session, "2026-01-31 18:00:00+01");
  EXPECT_EQ(ids(filter), "4 3 2");
  EXPECT_EQ(dead_ids(session, filter, 2, 1), (std::vector<std::int64_t>{3}));
}

TEST_F(DeadFilterTest, ATimeMayBeADurationAgo) {
  const auto seconds_ago = [&](const std::string& text) {
    return database.number("SELECT round(extract(epoch FROM clock_timestamp() - '" +
                           time_of(session, text) + "'::timestamptz) / 60)");
  };
  EXPECT_EQ(seconds_ago("2h"), 120);
  EXPECT_EQ(seconds_ago("1.5d"), 2160);
  EXPECT_EQ(seconds_ago("30m"), 30);
  for (const char* text : {"yesterday-ish", "2x", "-3h", "2026-13-01"}) {
    try {
      static_cast<void>(time_of(session, text));
      ADD_FAILURE() << text;
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(std::string(error.what()),
                "\"" + std::string(text) +
                    "\": write a time such as 2026-01-31T12:00:00Z, or how long ago, e.g. 2h");
    }
  }
}

TEST_F(DeadFilterTest, GroupsLeaveOutNumbersAndUuids) {
  const auto groups = group_dead(session, {}, 10);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(to_json(groups[0]), (nlohmann::json{{"count", 5},
                                                {"type", "Even"},
                                                {"error", "Key (n)=(N) of UUID"},
                                                {"last_failed_at", "2026-01-31T22:00:00.000000Z"},
                                                {"last_event_id", 10}}));
  EXPECT_EQ(groups[1].count, 4);
  EXPECT_EQ(groups[1].type, "Odd (1)");
  EXPECT_EQ(groups[1].last_event_id, 7);
  EXPECT_EQ(groups[2].error, "Could not reach N.N.N.N:N");
  EXPECT_EQ(group_dead(session, {}, 1).size(), 1u);
}

TEST_F(DeadFilterTest, AllAboutOne) {
  // A number that no double takes.
  const auto id = database.number(
      "INSERT INTO spillway.events (type, stream, payload, context, idempotency_key, max_attempts, "
      "priority) VALUES ('Huge', 's', '{\"n\": 1e400}', '{\"user\": 7}', 'k', 3, 2) RETURNING id");
  database.query("INSERT INTO spillway.dead_letters (event_id, error, attempts) VALUES (" +
                 std::to_string(id) + ", 'why', 1)");
  const auto event = find_dead(session, id);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->letter.error, "why");
  EXPECT_FALSE(event->letter.sqlstate.has_value());
  EXPECT_EQ(event->context, "{\n    \"user\": 7\n}");
  EXPECT_EQ(event->idempotency_key, "k");
  EXPECT_EQ(event->max_attempts, 3);
  EXPECT_EQ(event->priority, 2);
  EXPECT_EQ(event->held, 0);
  EXPECT_NE(event->payload.find("1000000"), std::string::npos);
  EXPECT_NE(event->json.find("\"idempotency_key\" : \"k\""), std::string::npos) << event->json;
  EXPECT_FALSE(find_dead(session, 99).has_value());
  EXPECT_EQ(status_of(session, 99), "");
  EXPECT_EQ(status_of(session, id), "dead, why");
}

}  // namespace
}  // namespace spillway
