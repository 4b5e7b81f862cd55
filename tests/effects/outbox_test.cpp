#include "effects/outbox.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

PendingBroadcast durable(const std::string& channel, const json& data) {
  PendingBroadcast pending;
  pending.channel = channel;
  pending.event_type = "E";
  pending.data_json = data.dump();
  pending.is_text = data.is_string();
  if (pending.is_text) pending.text = data.get<std::string>();
  return pending;
}

PendingBroadcast ephemeral(const std::string& channel, const json& data) {
  PendingBroadcast pending = durable(channel, data);
  pending.ephemeral = true;
  return pending;
}

TEST(Outbox, PositionsAreDenseAndEphemeralOnesCarryTheOneBefore) {
  Database database;
  PgConnection session(database.target());
  Outbox outbox(session);
  session.exec("BEGIN");
  outbox.add(7, {durable("a", 1), ephemeral("a", "live \"text\"\\"), durable("b", "two\nlines")});
  outbox.add(8, {ephemeral("b", 4), durable("c", {{"k", "v,{}\"\\"}})});
  outbox.write(false);
  session.exec("COMMIT");
  const sse::BroadcastBatch batch = outbox.take();
  EXPECT_EQ(batch.base_position, 0u);
  EXPECT_EQ(batch.base_ephemeral, 0u);
  const std::vector<sse::Broadcast> expected{
      {1, "a", "E", "1", false},
      {1, "a", "E", "live \"text\"\\", true},
      {2, "b", "E", "two\nlines", false},
      {2, "b", "E", "4", true},
      {3, "c", "E", R"({"k":"v,{}\"\\"})", false},
  };
  EXPECT_EQ(batch.broadcasts, expected);
  EXPECT_EQ(
      database.value(
          "SELECT string_agg(position || ':' || channel || ':' || data || ':' || event_id, ' '"
          " ORDER BY position) FROM spillway.broadcasts"),
      R"(1:a:1:7 2:b:"two\nlines":7 3:c:{"k":"v,{}\"\\"}:8)");
  EXPECT_EQ(database.value("SELECT string_agg(number || ':' || position, ' ' ORDER BY number)"
                           " FROM spillway.ephemeral_broadcasts"),
            "1:1 2:2");
}

TEST(Outbox, ARolledBackBatchLeavesNoHole) {
  Database database;
  PgConnection session(database.target());
  Outbox outbox(session);
  session.exec("BEGIN");
  outbox.add(1, {durable("a", 1), durable("a", 2)});
  outbox.write(false);
  session.exec("ROLLBACK");
  outbox.clear();
  session.exec("BEGIN");
  outbox.add(2, {durable("a", 3)});
  outbox.write(false);
  session.exec("COMMIT");
  EXPECT_EQ(outbox.take().broadcasts.at(0).position, 1u);
  EXPECT_EQ(database.number("SELECT last FROM spillway.stream_head"), 1);
}

// Whoever sees position N must see all below it: the row lock on the head orders positions as
// commits.
TEST(Outbox, PositionsFollowTheOrderOfCommits) {
  Database database;
  std::atomic<bool> finished{false};
  std::vector<std::jthread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&database, w] {
      PgConnection session(database.target());
      Outbox outbox(session);
      for (int i = 0; i < 100; ++i) {
        session.exec("BEGIN");
        outbox.add(w, {durable("c" + std::to_string(w), i), durable("d", i)});
        outbox.write(false);
        if (i % 7 == 3) {
          session.exec("ROLLBACK");
          outbox.clear();
        } else {
          session.exec("COMMIT");
          static_cast<void>(outbox.take());
        }
      }
    });
  }
  std::jthread watcher([&] {
    PgConnection session(database.target());
    while (!finished) {
      const Rows rows =
          session.exec("SELECT count(*), coalesce(max(position), 0) FROM spillway.broadcasts");
      ASSERT_EQ(rows.text(0, 0), rows.text(0, 1));
    }
  });
  writers.clear();
  finished = true;
  watcher.join();
  EXPECT_EQ(database.number("SELECT last FROM spillway.stream_head"),
            database.number("SELECT count(*) FROM spillway.broadcasts"));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 4 * 2 * 86);
}

}  // namespace
}  // namespace spillway
