#include "processor/worker_registry.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "processor/status.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;
using test::eventually;

constexpr const char* live = "SELECT count(*) FROM spillway.live_workers";
constexpr const char* rows = "SELECT count(*) FROM spillway.workers";

TEST(WorkerRegistry, AWorkerLivesAsLongAsItsSession) {
  Database database;
  std::int64_t id = 0;
  {
    PgConnection session(database.target());
    WorkerRegistry registry(session, false);
    id = registry.enter({3, 500, true});
    EXPECT_GT(id, 0);
    EXPECT_EQ(database.value("SELECT concat_ws(' ', runners, most_events, serves_streams, pooled)"
                             " FROM spillway.live_workers WHERE pid = " +
                             std::to_string(getpid())),
              "3 500 t f");
  }
  // The session ended without leave(), as that of a killed process does.
  EXPECT_TRUE(eventually([&] { return database.number(live) == 0; }));
  EXPECT_EQ(database.number(rows), 1);

  // It comes back, as after a lost connection; and once more, though its row was removed.
  PgConnection session(database.target());
  WorkerRegistry registry(session, false);
  EXPECT_EQ(registry.enter({3, 500, true}, id), id);
  EXPECT_EQ(database.number(live), 1);
  database.query("DELETE FROM spillway.workers");
  EXPECT_EQ(registry.enter({3, 500, true}, id), id);
  EXPECT_EQ(database.number("SELECT id FROM spillway.live_workers"), id);

  registry.leave(id);
  EXPECT_EQ(database.number(rows), 0);
}

TEST(WorkerRegistry, CountsWhatLives) {
  Database database;
  PgConnection one(database.target());
  PgConnection two(database.target());
  PgConnection tail(database.target());
  WorkerRegistry first(one, false);
  WorkerRegistry second(two, false);
  const auto own = first.enter({2, 1000, true});
  static_cast<void>(second.enter({4, 1000, false}));
  WorkerRegistry(tail, false).follow_streams();
  database.query(
      "INSERT INTO spillway.workers (host, pid, runners, most_events, serves_streams, version,"
      " pooled) VALUES ('gone', 1, 64, 1, true, '0', false)");
  const LiveWorkers count = first.count(own);
  EXPECT_EQ(count.workers, 2);
  EXPECT_EQ(count.runners, 6);
  EXPECT_EQ(count.stream_servers, 2);
  EXPECT_EQ(count.others_listen, 1);
  EXPECT_EQ(read_status(one).runners, 6);
}

TEST(WorkerRegistry, WithoutASessionOfItsOwnAWorkerLivesWhileItIsSeen) {
  Database database;
  PgConnection session(database.target());
  WorkerRegistry registry(session, true);
  const auto id = registry.enter({2, 1000, false});
  EXPECT_EQ(database.number(live), 1);
  EXPECT_EQ(database.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0);
  database.query("UPDATE spillway.workers SET seen_at = now() - interval '11 seconds'");
  EXPECT_EQ(database.number(live), 0);
  EXPECT_TRUE(registry.beat(id));
  EXPECT_EQ(database.number(live), 1);
  database.query("DELETE FROM spillway.workers");
  EXPECT_FALSE(registry.beat(id));
}

}  // namespace
}  // namespace spillway
