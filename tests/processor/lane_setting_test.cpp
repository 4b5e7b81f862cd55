#include "processor/lane_setting.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "processor/batch.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;
using test::eventually;

class LaneSetting : public testing::Test {
 protected:
  void set(int lanes) { EXPECT_TRUE(set_lanes(session, lanes, log())) << lanes; }
  std::function<void(const std::string&)> log() {
    return [this](const std::string& line) {
      lines.push_back(line);
      ++line_count;
    };
  }
  void insert(const std::string& rows) {
    database.query("INSERT INTO spillway.events (type, stream, priority, execute_at) " + rows);
  }
  // Rows that are not where their event belongs.
  long long misplaced() {
    return database.number(
        "SELECT count(*) FROM (SELECT lane, event_id FROM spillway.queue"
        " UNION ALL SELECT lane, event_id FROM spillway.ranked"
        " UNION ALL SELECT lane, event_id FROM spillway.waiting"
        " UNION ALL SELECT lane, event_id FROM spillway.scheduled"
        " UNION ALL SELECT lane, event_id FROM spillway.suspects) r"
        " JOIN spillway.events e ON e.id = r.event_id"
        " WHERE r.lane <> spillway.lane_of(e.stream, e.id)");
  }
  // Of events that are queued, in the order of seq.
  std::string order_of(const std::string& table) {
    return database.value("SELECT string_agg(event_id::text, ' ' ORDER BY seq) FROM spillway." +
                          table);
  }

  Database database;
  PgConnection session{database.target()};
  std::vector<std::string> lines;  // to be read when the change is over
  std::atomic<int> line_count{0};
};

TEST_F(LaneSetting, IsEightInANewDatabaseAndKeptAsItIs) {
  EXPECT_EQ(database.number("SELECT spillway.lane_count()"), 8);
  EXPECT_FALSE(set_lanes(session, 8));
  set(16);
  EXPECT_FALSE(set_lanes(session, 16));
  EXPECT_EQ(database.number("SELECT spillway.lane_count()"), 16);
}

TEST_F(LaneSetting, ANumberThatCannotBeIsRefused) {
  for (const char* number : {"0", "65", "-1", "NULL"}) {
    SCOPED_TRACE(number);
    try {
      session.exec("SELECT spillway.set_lanes(" + std::string(number) + ")");
      ADD_FAILURE();
    } catch (const SqlError& error) {
      EXPECT_EQ(error.sqlstate(), "22023");
      EXPECT_NE(std::string(error.what()).find("a number from 1 to 64"), std::string::npos);
    }
  }
  EXPECT_EQ(database.number("SELECT spillway.lane_count()"), 8);
}

TEST_F(LaneSetting, LanesAreUsedEvenlyWhateverTheirNumber) {
  for (const int lanes : {1, 2, 7, 16, 64, 8}) {
    if (lanes != 8 || database.number("SELECT spillway.lane_count()") != 8) set(lanes);
    for (const char* event : {"'item:' || g, 1", "NULL, g", "NULL, -g"}) {
      const auto lane = "spillway.lane_of(" + std::string(event) + ")";
      EXPECT_EQ(database.value("SELECT concat_ws(' ', count(DISTINCT " + lane + "), min(" + lane +
                               "), max(" + lane + ")) FROM generate_series(1, 2000) g"),
                std::to_string(lanes) + " 0 " + std::to_string(lanes - 1))
          << event;
      EXPECT_LE(database.number("SELECT max(n) FROM (SELECT count(*) AS n FROM "
                                "generate_series(1, 2000) g GROUP BY " +
                                lane + ") counts"),
                2000 / lanes * 2);
    }
  }
}

TEST_F(LaneSetting, AllThatIsQueuedGoesToItsNewLaneInTheOldOrder) {
  insert("SELECT 'A', 's' || g % 50, 0, now() FROM generate_series(1, 300) g");
  insert("SELECT 'A', 's' || g % 50, g % 5 + 1, now() FROM generate_series(1, 100) g");
  insert("SELECT 'A', NULL, -1, now() FROM generate_series(1, 100) g");
  insert("SELECT 'A', 's' || g % 50, 0, now() + interval '1 hour' FROM generate_series(1, 100) g");
  insert("SELECT 'A', 'w' || g, 0, now() FROM generate_series(1, 100) g");
  database.query(
      "WITH failed AS (DELETE FROM spillway.queue q USING spillway.events e"
      "  WHERE e.id = q.event_id AND e.stream LIKE 'w%' RETURNING q.lane, e.stream, q.event_id)"
      " INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at)"
      " SELECT event_id, lane, stream, 1, now() + interval '1 hour' FROM failed;"
      "INSERT INTO spillway.suspects (event_id, lane, crashes)"
      " SELECT event_id, lane, 0 FROM spillway.queue ORDER BY seq LIMIT 20;"
      "UPDATE spillway.ranked SET after_seq = 1 WHERE priority > 0");
  const std::string queue = order_of("queue"), ranked = order_of("ranked");
  for (const int lanes : {16, 1, 64, 5, 8}) {
    const long long newest = database.number("SELECT last_value FROM spillway.queue_seq");
    set(lanes);
    EXPECT_EQ(misplaced(), 0) << lanes;
    EXPECT_EQ(order_of("queue"), queue) << lanes;
    EXPECT_EQ(order_of("ranked"), ranked) << lanes;
    EXPECT_EQ(database.number("SELECT count(*) FROM spillway.ranked WHERE after_seq IS NOT NULL"),
              0);
    // Below what a worker may have seen, nothing.
    EXPECT_GT(database.number("SELECT least((SELECT min(seq) FROM spillway.queue),"
                              " (SELECT min(seq) FROM spillway.ranked))"),
              newest);
    insert("VALUES ('A', 's1', 0, now())");
    EXPECT_EQ(misplaced(), 0) << lanes;
    database.query(
        "DELETE FROM spillway.queue WHERE event_id = (SELECT max(id) FROM spillway.events)");
  }
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.scheduled"), 100);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.waiting"), 100);
}

// A worker that has been there since before, with its marks and its prepared statements.
TEST_F(LaneSetting, AWorkerForgetsNothingAndMissesNothing) {
  database.query("CREATE TABLE seen (n bigserial, event bigint, stream text)");
  auto registry = std::make_shared<Registry>();
  registry->on("A", [](const Event& event) {
    return Effects{Insert{"seen", {{"event", event.id}, {"stream", *event.stream}}}};
  });
  const HandlerSet handlers(registry);
  LaneMarks marks(most_lanes);
  PgConnection worker(database.target());
  Batch batch(worker, handlers, marks, {}, {}, 1);
  std::vector<int> all(most_lanes);
  std::iota(all.begin(), all.end(), 0);
  std::size_t told = 8;
  for (const int lanes : {8, 16, 1, 8, 3, 64}) {
    insert("SELECT 'A', 's' || g % 100, 0, now() FROM generate_series(1, 500) g");
    // Some batches, so that the marks are inside the lanes.
    for (int i = 0; i < 6; ++i)
      static_cast<void>(batch.run(all, static_cast<std::size_t>(i % 3 + 1), 30, false));
    if (lanes != 8 || told != 8) set(lanes);
    insert("SELECT 'A', 's' || g % 100, 0, now() FROM generate_series(1, 500) g");
    // It still looks into the old lanes only, and hears of the others.
    const std::vector<int> old(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(told));
    told = batch.run(old, told, 30, false).lane_count;
    EXPECT_EQ(told, static_cast<std::size_t>(lanes));
  }
  const std::vector<int> last(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(told));
  while (batch.run(last, told, 100, false).taken > 0) {
  }
  EXPECT_TRUE(test::drained(database));
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), count(DISTINCT event)) FROM seen"),
            "6000 6000");
  EXPECT_EQ(database.number("SELECT count(*) FROM (SELECT event, lag(event) OVER (PARTITION BY "
                            "stream ORDER BY n) AS before FROM seen) o WHERE event < before"),
            0);
}

TEST_F(LaneSetting, ALookSaysTheNumberEvenWhenSomebodyElseHasAllLanes) {
  PgConnection other(database.target());
  QueueStore owner(other), store(session);
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  owner.begin();
  EXPECT_EQ(owner.own_lanes(lanes, lanes.size()).lanes, lanes);
  store.begin();
  const OwnedLanes owned = store.own_lanes(lanes, lanes.size());
  EXPECT_TRUE(owned.lanes.empty());
  EXPECT_EQ(owned.lane_count, lane_count);
  store.rollback();
  owner.rollback();
}

TEST_F(LaneSetting, WaitsForBatchesAndForWritersAndKeepsThemOut) {
  insert("SELECT 'A', 's' || g, 0, now() FROM generate_series(1, 20) g");
  PgConnection batch(database.target()), early(database.target()), late(database.target());
  // Plans that were made for eight lanes.
  for (int i = 0; i < 10; ++i)
    late.exec("INSERT INTO spillway.events (type, stream) VALUES ('A', 'late')");
  QueueStore owner(batch);
  owner.begin();
  const int lane = 5;
  EXPECT_EQ(owner.own_lanes({&lane, 1}, 1).lanes.size(), 1u);
  early.exec(
      "BEGIN; INSERT INTO spillway.events (type, stream) SELECT 'A', 's' || g"
      " FROM generate_series(1, 20) g");
  const auto waits_for = [&](const std::string& what) {
    return eventually([&] {
      return database.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND " + what) > 0;
    });
  };
  std::atomic<bool> set_done{false}, insert_done{false};
  {
    std::jthread setter([&] {
      set(16);
      set_done = true;
    });
    EXPECT_TRUE(waits_for("locktype = 'advisory'"));
    EXPECT_FALSE(set_done);
    owner.rollback();
    EXPECT_TRUE(waits_for("locktype = 'relation'"));
    EXPECT_FALSE(set_done);
    std::jthread writer([&] {
      late.exec(
          "INSERT INTO spillway.events (type, stream) SELECT 'A', 'after' || g"
          " FROM generate_series(1, 50) g");
      insert_done = true;
    });
    EXPECT_TRUE(eventually(
        [&] { return database.number("SELECT count(*) FROM pg_locks WHERE NOT granted") == 2; }));
    EXPECT_FALSE(insert_done);
    early.exec("COMMIT");
  }
  EXPECT_EQ(misplaced(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 100);
  EXPECT_GT(database.number("SELECT max(lane) FROM spillway.queue"), 7);
  EXPECT_TRUE(lines.empty());
}

// Somebody who holds what is needed, and is about to insert: nobody may be left to the deadlock
// detector.
TEST_F(LaneSetting, GivesWayToWhoHoldsAnotherTable) {
  insert("SELECT 'A', 's' || g, 0, now() FROM generate_series(1, 20) g");
  PgConnection other(database.target());
  other.exec("BEGIN; UPDATE spillway.waiting SET attempts = 1 WHERE event_id = 0");
  {
    std::jthread setter([&] { set(16); });
    const auto waits = [&] {
      return database.number(
                 "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'") > 0;
    };
    EXPECT_TRUE(eventually([&] { return line_count > 0 || waits(); }));
    EXPECT_FALSE(waits());
    other.exec("INSERT INTO spillway.events (type, stream) VALUES ('A', 's1')");
    other.exec("COMMIT");
  }
  EXPECT_NE(lines.front().find("the change of lanes is in somebody's way"), std::string::npos);
  EXPECT_EQ(misplaced(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 21);
}

TEST_F(LaneSetting, ASuspicionCoversTheSameEventsInTheirNewLanes) {
  insert("SELECT 'A', 's' || g, 0, now() FROM generate_series(1, 200) g");
  insert("SELECT 'A', 'r' || g, 1, now() FROM generate_series(1, 10) g");
  database.query(
      "INSERT INTO spillway.suspicion (lane, until_seq)"
      " VALUES (0, 100), (1, 0), (2, 50), (3, 50), (4, 50), (5, 50), (6, 50), (7, 210)");
  const char* const suspected =
      "SELECT string_agg(event_id::text, ' ' ORDER BY event_id) FROM"
      " (SELECT lane, seq, event_id FROM spillway.queue UNION ALL"
      "  SELECT lane, seq, event_id FROM spillway.ranked) r JOIN spillway.suspicion s USING (lane)"
      " WHERE seq <= until_seq";
  database.query(
      "CREATE TABLE before AS SELECT event_id FROM (SELECT lane, seq, event_id FROM spillway.queue"
      " UNION ALL SELECT lane, seq, event_id FROM spillway.ranked) r"
      " JOIN spillway.suspicion s USING (lane) WHERE seq <= until_seq");
  for (const int lanes : {16, 2}) {
    set(lanes);
    EXPECT_EQ(database.number("SELECT count(*) FROM spillway.suspicion"), lanes);
    // No event of before is missing; those that are in front of one of them in its lane come along.
    EXPECT_EQ(
        database.number("SELECT count(*) FROM before WHERE event_id NOT IN (SELECT event_id FROM"
                        " (SELECT lane, seq, event_id FROM spillway.queue UNION ALL"
                        "  SELECT lane, seq, event_id FROM spillway.ranked) r"
                        " JOIN spillway.suspicion s USING (lane) WHERE seq <= until_seq)"),
        0);
    EXPECT_EQ(database.number(
                  "SELECT count(*) FROM spillway.suspicion s WHERE NOT EXISTS"
                  " (SELECT FROM spillway.queue q JOIN before USING (event_id)"
                  "  WHERE q.lane = s.lane AND q.seq = s.until_seq)"
                  " AND NOT EXISTS (SELECT FROM spillway.ranked q JOIN before USING (event_id)"
                  "  WHERE q.lane = s.lane AND q.seq = s.until_seq)"
                  " AND EXISTS (SELECT FROM spillway.queue q"
                  "  WHERE q.lane = s.lane AND q.seq <= s.until_seq)"),
              0)
        << "further than to the last of them";
    EXPECT_NE(database.value(suspected), "");
  }
}

// The search goes by what is first in the lanes, so the change has to look for it before.
TEST_F(LaneSetting, WhatADeadProcessHadInHandIsSuspectedInTheLanesItWasIn) {
  insert("SELECT 'A', 's' || g, 0, now() FROM generate_series(1, 200) g");
  database.query(
      "INSERT INTO spillway.workers (host, pid, runners, most_events, serves_streams, version,"
      " pooled) VALUES ('gone', 17, 2, 10, false, '0', false);"
      "CREATE TABLE in_hand AS SELECT event_id FROM (SELECT event_id, row_number() OVER"
      " (PARTITION BY lane ORDER BY seq) AS place FROM spillway.queue) q WHERE place <= 10");
  set(1);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines.front().find("pid 17 on gone ended without stopping in order"),
            std::string::npos);
  EXPECT_EQ(database.number("SELECT count(*) FROM in_hand"), 80);
  EXPECT_EQ(database.number("SELECT count(*) FROM in_hand JOIN spillway.queue q USING (event_id)"
                            " JOIN spillway.suspicion s USING (lane) WHERE q.seq <= s.until_seq"),
            80);
}

TEST_F(LaneSetting, AStepThatWasPreparedBeforeEndsNoSuspicionOfNow) {
  insert("VALUES ('A', 's1', 0, now())");
  database.query(
      "WITH failed AS (DELETE FROM spillway.queue RETURNING lane, event_id)"
      " INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at)"
      " SELECT event_id, lane, 's1', 1, now() FROM failed;"
      "INSERT INTO spillway.suspicion (lane, until_seq) SELECT lane, 0 FROM spillway.waiting");
  const int lane = static_cast<int>(database.number("SELECT lane FROM spillway.waiting"));
  SuspectsShared shared([] { return 7; });
  Suspects suspects(session, &shared);
  LaneMarks marks(most_lanes);
  const auto prepared = suspects.prepare({&lane, 1}, marks, 10, 1000);
  ASSERT_TRUE(prepared.step);
  ASSERT_TRUE(prepared.step->last);
  {
    PgConnection other(database.target());
    ASSERT_TRUE(set_lanes(other, 16));
  }
  session.exec("BEGIN");
  suspects.settle(*prepared.step);
  session.exec("COMMIT");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.suspicion"), 16);
}

}  // namespace
}  // namespace spillway
