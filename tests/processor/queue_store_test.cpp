#include "processor/queue_store.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "processor/pg_pipeline.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

std::vector<int> all_lanes() {
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  return lanes;
}

const LaneStarts from_the_start{
    std::vector<std::uint64_t>(lane_count, 0), std::vector<std::uint64_t>(lane_count, 0), {}};

class QueueStoreTest : public testing::Test {
 protected:
  std::string claim(QueueStore& from, std::size_t limit = 100, std::size_t bytes = 1u << 20) {
    const auto lanes = all_lanes();
    const auto claimed = from.claim_queue(lanes, from_the_start, limit, bytes);
    std::string ids = claimed.cut ? "cut" : "all";
    for (const auto& event : claimed.events)
      ids += " " + std::to_string(event.event.id) + (event.held ? "h" : "");
    return ids;
  }

  bool is_armed() { return database.value("SELECT spillway.is_armed()") == "t"; }

  static constexpr std::chrono::milliseconds hold{10'000};
  Database database;
  PgConnection session{database.target()};
  PgConnection other_session{database.target()};
  QueueStore store{session};
  QueueStore other{other_session};
};

TEST_F(QueueStoreTest, ALaneHasOneOwnerUntilTheTransactionEnds) {
  store.begin();
  other.begin();
  const std::vector<int> order{3, 4, 5, 6, 7, 0, 1, 2};
  EXPECT_EQ(store.own_lanes(order, 3).lanes, (std::vector<int>{3, 4, 5}));
  EXPECT_EQ(other.own_lanes(order, 3).lanes, (std::vector<int>{6, 7, 0}));
  EXPECT_EQ(other.own_lanes(order, 8).lanes, (std::vector<int>{6, 7, 0, 1, 2}));
  store.rollback();
  EXPECT_EQ(other.own_lanes(std::vector<int>{3}, 1).lanes, (std::vector<int>{3}));
  other.commit();
}

// The trap: a snapshot taken with the lock shows rows that the former owner has finished meanwhile.
TEST_F(QueueStoreTest, TheReadAfterTheLockDoesNotSeeWhatTheFormerOwnerFinished) {
  database.query("INSERT INTO spillway.events (type) VALUES ('A')");
  const auto lanes = all_lanes();
  store.begin();
  static_cast<void>(store.own_lanes(lanes, 8));
  const auto claimed = store.claim_queue(lanes, from_the_start, 10, 1000);
  ASSERT_EQ(claimed.events.size(), 1u);
  std::uint64_t xid = 0;
  store.remove_from_queue(claimed.events, xid);
  other.begin();
  EXPECT_TRUE(other.own_lanes(lanes, 8).lanes.empty());
  store.commit();
  EXPECT_EQ(other.own_lanes(lanes, 8).lanes.size(), 8u);  // same transaction, later statements
  EXPECT_EQ(claim(other), "all");
  other.rollback();
}

TEST_F(QueueStoreTest, ClaimsAreLaneByLaneInOrderAndKnowWhenTheyWereCut) {
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'A', 's' FROM generate_series(1, 5)");
  store.begin();
  EXPECT_EQ(claim(store, 3), "cut 1 2 3");
  EXPECT_EQ(claim(store, 6), "all 1 2 3 4 5");
  store.rollback();
}

TEST_F(QueueStoreTest, AClaimIsBoundedInBytesButTakesOneAtLeast) {
  database.query(
      "ALTER TABLE spillway.events ALTER COLUMN payload SET STORAGE EXTERNAL;"
      "INSERT INTO spillway.events (type, stream, payload) SELECT 'A', 's',"
      " jsonb_build_object('x', repeat('y', 10000)) FROM generate_series(1, 5)");
  store.begin();
  EXPECT_EQ(claim(store, 100, 1), "cut 1");
  EXPECT_EQ(claim(store, 100, 15000), "cut 1 2");
  EXPECT_EQ(claim(store, 100, 1000000), "all 1 2 3 4 5");
  store.rollback();
}

TEST_F(QueueStoreTest, ALookClaimsOnlyOfTheLanesThatItGets) {
  database.query("INSERT INTO spillway.events (type) SELECT 'A' FROM generate_series(1, 400)");
  PgPipeline quick(database.target());
  QueueStore looking(quick);
  other.begin();
  ASSERT_EQ(other.own_lanes(std::vector<int>{1, 3, 5}, 3).lanes.size(), 3u);
  looking.begin();
  const auto look = looking.look(all_lanes(), 4, from_the_start, 1000, 1u << 20);
  EXPECT_EQ(look.owned.lanes, (std::vector<int>{0, 2, 4, 6}));
  ASSERT_TRUE(look.claim);
  std::set<int> lanes;
  for (const auto& event : look.claim->events) lanes.insert(event.lane);
  EXPECT_EQ(lanes, (std::set<int>{0, 2, 4, 6}));
  EXPECT_EQ(look.claim->events.size(),
            static_cast<std::size_t>(
                database.number("SELECT count(*) FROM spillway.queue WHERE lane IN (0,2,4,6)")));
  looking.rollback();
  // What the last transaction was told counts for nothing.
  ASSERT_EQ(other.own_lanes(all_lanes(), 8).lanes.size(), 8u);
  looking.begin();
  const auto nothing = looking.look(all_lanes(), 8, from_the_start, 1000, 1u << 20);
  EXPECT_TRUE(nothing.owned.lanes.empty());
  ASSERT_TRUE(nothing.claim);
  EXPECT_TRUE(nothing.claim->events.empty());
  looking.rollback();
  other.rollback();
}

TEST_F(QueueStoreTest, LargeEventsAreMeasured) {
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) SELECT 'A', 's', to_jsonb((SELECT "
      "string_agg(md5(g::text || i::text), '') FROM generate_series(1, size) i)) FROM (VALUES (1, "
      "1), (2, 200), (3, 1), (4, 200), (5, 1)) AS v(g, size)");
  store.begin();
  // A share of 100 bytes, and 7000 in all: the second goes beyond the share, the fourth to the end.
  const auto look = store.look(all_lanes(), 8, from_the_start, 70, 7000);
  EXPECT_FALSE(look.claim);
  EXPECT_EQ(claim(store, 70, 7000), "cut 1 2 3 4");
  EXPECT_EQ(claim(store, 70, 70000), "all 1 2 3 4 5");
  store.rollback();
}

TEST_F(QueueStoreTest, AClaimThatSomebodyTookAwayIsNeverCommitted) {
  database.query("CREATE TABLE t (n int); INSERT INTO spillway.events (type) VALUES ('A'), ('A')");
  PgPipeline quick(database.target());
  QueueStore taking(quick);
  taking.begin();
  const auto claimed = taking.claim_queue(all_lanes(), from_the_start, 10, 1000).events;
  database.query("DELETE FROM spillway.queue WHERE event_id = 1");
  quick.send({"", "INSERT INTO t VALUES (1)"}, {});
  std::uint64_t xid = 0;
  taking.remove_from_queue(claimed, xid);
  try {
    taking.commit();
    FAIL() << "committed";
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "XX000");
    EXPECT_STREQ(error.what(),
                 "only 1 of 2 claimed events are still in the queue: did somebody delete from it?");
  }
  taking.rollback();
  EXPECT_EQ(xid, 0u);
  EXPECT_EQ(database.number("SELECT count(*) FROM t"), 0);
}

TEST_F(QueueStoreTest, AnEventArrivesWhole) {
  database.query(
      "INSERT INTO spillway.events (type, payload, stream, context, correlation_id, causation_id, "
      "max_attempts)"
      " VALUES ('A', '{\"a\":[1,2.5,\"x\"]}', 's', '{\"u\":7}', "
      "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 5, 9)");
  store.begin();
  const auto claimed = store.claim_queue(all_lanes(), from_the_start, 10, 1000).events;
  store.rollback();
  ASSERT_EQ(claimed.size(), 1u);
  const Event& event = claimed[0].event;
  EXPECT_EQ(event.type, "A");
  EXPECT_EQ(event.payload, json::parse(R"({"a":[1,2.5,"x"]})"));
  EXPECT_EQ(event.stream, "s");
  EXPECT_EQ(event.context, json::parse(R"({"u":7})"));
  EXPECT_EQ(event.correlation_id, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  EXPECT_EQ(event.causation_id, 5);
  EXPECT_EQ(event.attempt, 1);
  EXPECT_EQ(claimed[0].max_attempts, 9);
  EXPECT_EQ(event.created_at[10], 'T');
  EXPECT_EQ(event.created_at.back(), 'Z');
}

TEST_F(QueueStoreTest, ANumberThatNoDoubleHoldsIsAProblemOfItsEventOnly) {
  database.query(
      "INSERT INTO spillway.events (type, payload) VALUES ('A', '{\"x\":1e400}'), ('A', "
      "'{\"x\":1}')");
  store.begin();
  const auto claimed = store.claim_queue(all_lanes(), from_the_start, 10, 1000).events;
  store.rollback();
  ASSERT_EQ(claimed.size(), 2u);
  int problems = 0;
  for (const auto& event : claimed) problems += event.problem.empty() ? 0 : 1;
  EXPECT_EQ(problems, 1);
}

// The trap: with the queue joined to the log in one plain query the planner may walk the log from
// its beginning, and every claim gets slower as the log grows.
TEST_F(QueueStoreTest, AClaimDoesNotWalkTheLog) {
  database.query(
      "INSERT INTO spillway.events (type) SELECT 'A' FROM generate_series(1, 20000);"
      "DELETE FROM spillway.queue WHERE event_id <= 19990");
  database.query("VACUUM ANALYZE spillway.events, spillway.queue");
  store.begin();
  EXPECT_EQ(claim(store).size(),
            std::string("all 19991 19992 19993 19994 19995 19996 19997 19998 19999 20000").size());
  store.rollback();
  session.exec("SELECT pg_stat_force_next_flush()");
  session.exec("SELECT 1");
  // Ten events looked up by their key, and no scan of the log.
  EXPECT_EQ(
      database.number(
          "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'spillway.events'::regclass"),
      0);
  EXPECT_LE(database.number("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relid = "
                            "'spillway.events'::regclass"),
            10);
  EXPECT_GE(
      database.number(
          "SELECT idx_scan FROM pg_stat_user_tables WHERE relid = 'spillway.events'::regclass"),
      10);
}

// The trap: what is deleted stays in the index while any old snapshot lives; claims that start at
// the lane's beginning walk over it each time.
TEST_F(QueueStoreTest, AClaimBehindTheMarkDoesNotWalkDeadRows) {
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'A', 's' FROM generate_series(1, 20000)");
  PgConnection old_snapshot(database.target());
  old_snapshot.exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  database.query("DELETE FROM spillway.queue WHERE seq <= 19999");
  const auto buffers = [&](std::uint64_t from) {
    const Rows plan = session.exec(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT seq FROM spillway.queue WHERE lane = "
        "spillway.lane_of('s', 1)"
        " AND seq >= " +
        std::to_string(from) + " ORDER BY seq LIMIT 10");
    const json node = json::parse(plan.text(0, 0))[0]["Plan"];
    return node["Shared Hit Blocks"].get<int>() + node["Shared Read Blocks"].get<int>();
  };
  EXPECT_GT(buffers(0), 50);
  EXPECT_LT(buffers(20000), 10);
}

TEST_F(QueueStoreTest, ClaimsStartFurtherOnOnlyWhileTheBlockersRun) {
  PgConnection writer(database.target());
  writer.exec("BEGIN");
  writer.exec("INSERT INTO spillway.events (type) VALUES ('late')");
  const auto xid = writer.exec("SELECT pg_current_xact_id()").integer<std::uint64_t>(0, 0);
  writer.exec("SAVEPOINT inner_part");  // with an xid of its own, which does not matter
  writer.exec("INSERT INTO spillway.events (type) VALUES ('late')");
  PgConnection bystander(database.target());
  bystander.exec("BEGIN");
  bystander.exec("CREATE TABLE elsewhere (x int)");
  database.query("INSERT INTO spillway.events (type) SELECT 'A' FROM generate_series(1, 3)");

  ASSERT_TRUE(store.queue_writers());
  EXPECT_EQ(*store.queue_writers(), std::vector<std::uint64_t>{xid});
  LaneStarts starts = from_the_start;
  starts.fast.assign(lane_count, 4);
  starts.blockers = {xid};
  auto claimed = store.claim_queue(all_lanes(), starts, 100, 1u << 20);
  ASSERT_EQ(claimed.events.size(), 2u);
  EXPECT_TRUE(claimed.fast);
  writer.exec("COMMIT");
  claimed = store.claim_queue(all_lanes(), starts, 100, 1u << 20);
  EXPECT_EQ(claimed.events.size(), 5u);
  EXPECT_FALSE(claimed.fast);
  EXPECT_TRUE(store.queue_writers()->empty());
}

TEST_F(QueueStoreTest, ScheduledEventsAreOutOfTheWayUntilTheyAreDue) {
  database.query(
      "INSERT INTO spillway.events (type, execute_at) VALUES ('A', now() + interval '1 hour')");
  database.query("INSERT INTO spillway.events (type) VALUES ('B')");
  store.begin();
  EXPECT_FALSE(store.own_lanes(all_lanes(), 8).scheduled_due);
  EXPECT_EQ(claim(store), "all 2");
  store.rollback();
  EXPECT_EQ(
      database.value("SELECT string_agg(status, ' ' ORDER BY event_id) FROM spillway.event_status"),
      "scheduled pending");
  database.query("UPDATE spillway.scheduled SET due_at = now()");
  store.begin();
  EXPECT_TRUE(store.own_lanes(all_lanes(), 8).scheduled_due);
  store.promote_scheduled();
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.scheduled"), 1);  // not committed yet
  store.commit();
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 2);
  // Never below what was there: it may already count as settled.
  EXPECT_EQ(database.number("SELECT event_id FROM spillway.queue ORDER BY seq DESC LIMIT 1"), 1);
}

TEST_F(QueueStoreTest, AWaitingEventHoldsItsStreamAndIsFollowedInOrder) {
  database.query(
      "INSERT INTO spillway.events (type, stream) VALUES ('A', 's'), ('A', 's'), ('A', 'free'), "
      "('A', 's')");
  store.begin();
  auto claimed = store.claim_queue(all_lanes(), from_the_start, 100, 1000).events;
  std::sort(claimed.begin(), claimed.end(),
            [](const auto& a, const auto& b) { return a.event.id < b.event.id; });
  ASSERT_EQ(claimed.size(), 4u);
  // Event 1 fails, event 2 must not overtake it; 3 is done; 4 has not come yet, as it were.
  store.postpone(
      std::vector<Postponed>{{&claimed[0], 1, std::chrono::milliseconds(3600000), "why", "P0001"},
                             {&claimed[1], 0, std::nullopt, "", ""}});
  std::uint64_t xid = 0;
  store.remove_from_queue(std::span(claimed).first(3), xid);
  store.commit();
  EXPECT_NE(xid, 0u);
  EXPECT_EQ(
      database.value("SELECT string_agg(concat_ws(',', status, attempts, last_error), ' | ' ORDER "
                     "BY event_id) FROM spillway.event_status"),
      "retrying,1,why | pending,0,held back by event 1 of the same stream | done | pending,0");

  store.begin();
  EXPECT_FALSE(store.own_lanes(all_lanes(), 8).waiting_due);
  EXPECT_EQ(claim(store), "all 4h");
  EXPECT_TRUE(store.claim_waiting(all_lanes(), 10).empty());
  store.rollback();

  database.query("UPDATE spillway.waiting SET due_at = now() WHERE event_id = 1");
  store.begin();
  EXPECT_TRUE(store.own_lanes(all_lanes(), 8).waiting_due);
  const auto due = store.claim_waiting(all_lanes(), 10);
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[0].event.id, 1);
  EXPECT_EQ(due[0].attempts, 1);
  EXPECT_EQ(due[0].event.attempt, 2);
  EXPECT_EQ(due[1].event.id, 2);
  // Only the first is done in time: the next of the stream becomes due.
  store.remove_from_waiting(std::vector<std::int64_t>{1});
  store.release_streams(std::vector<std::string>{"s"});
  store.commit();
  store.begin();
  EXPECT_EQ(store.claim_waiting(all_lanes(), 10).size(), 1u);
  store.rollback();
}

TEST_F(QueueStoreTest, FollowersStopAtOneWithATimeOfItsOwn) {
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'A', 's' FROM generate_series(1, 4);"
      "DELETE FROM spillway.queue;"
      "INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at) VALUES"
      " (1, spillway.lane_of('s', 1), 's', 1, now()), (2, spillway.lane_of('s', 1), 's', 0, NULL),"
      " (3, spillway.lane_of('s', 1), 's', 1, now() + interval '1 hour'), (4, "
      "spillway.lane_of('s', 1), 's', 0, NULL)");
  store.begin();
  const auto due = store.claim_waiting(all_lanes(), 10);
  store.rollback();
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[1].event.id, 2);
  // One that is due but not the first of its stream does not start it.
  database.query(
      "UPDATE spillway.waiting SET due_at = now() + interval '1 hour' WHERE event_id = 1;"
      "UPDATE spillway.waiting SET due_at = now() WHERE event_id = 3");
  store.begin();
  EXPECT_TRUE(store.claim_waiting(all_lanes(), 10).empty());
  store.rollback();
}

TEST_F(QueueStoreTest, ArmingTellsWhatIsDueNext) {
  database.query("SELECT setval('spillway.armed', 0)");
  EXPECT_FALSE(store.arm(hold).next_due.has_value());
  EXPECT_EQ(store.arm(hold).bound, 0u) << "armed already";
  EXPECT_GT(store.arm(hold, true).bound, 0u) << "asked for";
  EXPECT_TRUE(is_armed());
  database.query(
      "INSERT INTO spillway.events (type, execute_at) VALUES ('A', now() + interval '100 "
      "seconds')");
  const auto armed = store.arm(hold);
  ASSERT_TRUE(armed.next_due.has_value());
  EXPECT_GT(armed.next_due->count(), 50'000);
  EXPECT_LE(armed.next_due->count(), 100'001);
  store.disarm();
  EXPECT_FALSE(is_armed());
}

TEST_F(QueueStoreTest, AnArmingLastsForATimeAndIsProlongedWhenHalfOfItIsOver) {
  const auto left = [&] {
    return database.number(
        "SELECT (last_value - 1000 * extract(epoch FROM clock_timestamp()))::bigint"
        " FROM spillway.armed");
  };
  store.disarm();
  EXPECT_GT(store.arm(hold).bound, 0u);
  EXPECT_LE(left(), hold.count());
  EXPECT_GT(left(), hold.count() / 2);
  const auto until = database.number("SELECT last_value FROM spillway.armed");
  EXPECT_EQ(store.arm(hold).bound, 0u);
  EXPECT_EQ(database.number("SELECT last_value FROM spillway.armed"), until) << "long enough";
  EXPECT_EQ(store.arm(hold * 3).bound, 0u) << "it was in force all the time";
  EXPECT_GT(left(), hold.count() * 2);
  // As if that time had passed.
  database.query(
      "SELECT setval('spillway.armed', floor(1000 * extract(epoch FROM "
      "clock_timestamp()))::bigint)");
  EXPECT_FALSE(is_armed());
  EXPECT_GT(store.arm(hold).bound, 0u) << "an insert may have found it over";
  EXPECT_TRUE(is_armed());
}

TEST_F(QueueStoreTest, AnInsertInFlightAtTheArmingKeepsTheSweepFromCounting) {
  store.disarm();
  PgConnection writer(database.target());
  writer.exec("BEGIN; INSERT INTO spillway.events (type) VALUES ('A')");  // its trigger read 0
  const auto armed = store.arm(hold);
  store.begin();
  EXPECT_LT(store.own_lanes(all_lanes(), 8).xmin, armed.bound);
  EXPECT_EQ(claim(store), "all");
  store.rollback();
  writer.exec("COMMIT");
  store.begin();
  EXPECT_GE(store.own_lanes(all_lanes(), 8).xmin, armed.bound);
  EXPECT_EQ(claim(store), "all 1");
  store.rollback();
}

}  // namespace
}  // namespace spillway
