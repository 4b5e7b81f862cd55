#include "processor/retention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include "effects/outbox.hpp"
#include "processor/embedded_file.hpp"
#include "processor/outbox_reader.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace migrations {
extern const EmbeddedFile files[];
extern const std::size_t files_count;
}  // namespace migrations

namespace {

using test::Database;
using test::eventually;
using Outcome = RetentionStore::Outcome;
using namespace std::chrono_literals;

constexpr int before_partitions = 14;

// Applies the migrations from `first` to `last`.
void apply_migrations(SqlSession& session, int first, int last) {
  for (std::size_t i = 0; i < migrations::files_count; ++i) {
    const int version = std::stoi(std::string(migrations::files[i].name.substr(0, 4)));
    if (version < first || version > last) continue;
    session.exec("BEGIN");
    session.exec(std::string(migrations::files[i].text));
    session.exec("COMMIT");
  }
}

// One transaction of `count` broadcasts on channel a:1, as a batch writes them.
void tell(SqlSession& session, int count) {
  Outbox outbox(session);
  session.exec("BEGIN");
  std::vector<PendingBroadcast> pending(static_cast<std::size_t>(count));
  for (PendingBroadcast& broadcast : pending) {
    broadcast.channel = "a:1";
    broadcast.event_type = "E";
    broadcast.data_json = "1";
  }
  outbox.add(1, std::move(pending));
  outbox.write(false);
  session.exec("COMMIT");
}

std::string state_of(SqlSession& session, const std::string& sql) {
  try {
    session.exec(sql);
  } catch (const SqlError& error) {
    return error.sqlstate();
  }
  return "";
}

// Lets somebody else act between two statements of a reader.
class InterruptedSession final : public SqlSession {
 public:
  InterruptedSession(SqlSession& session, std::string before, std::function<void()> act)
      : session_(session), before_(std::move(before)), act_(std::move(act)) {}
  using SqlSession::run;
  Rows run(const Statement& statement, std::span<const Parameter> parameters) override {
    if (statement.name == before_) act_();
    return session_.run(statement, parameters);
  }
  Rows exec(const std::string& sql) override { return session_.exec(sql); }
  void forget(const Statement& statement) override { session_.forget(statement); }

 private:
  SqlSession& session_;
  std::string before_;
  std::function<void()> act_;
};

class Broadcasts : public testing::Test {
 protected:
  Outcome extend(std::int64_t rows) { return store.extend_broadcasts(rows, std::nullopt); }
  // Beyond the last `count`; what was just written is settled too.
  static std::string drop_beyond(int count) {
    return "SELECT spillway.drop_broadcasts(NULL, " + std::to_string(count) + ", 'infinity')";
  }
  std::string partitions() {
    return database.value(
        "SELECT string_agg(coalesce(first::text, '') || '-' || coalesce(last::text, ''), ' '"
        " ORDER BY coalesce(last, 1e18)) FROM spillway.broadcast_partitions");
  }
  void age(int upto, const std::string& interval) {
    database.query("UPDATE spillway.broadcasts SET created_at = now() - interval '" + interval +
                   "' WHERE position <= " + std::to_string(upto));
  }
  long long floor() { return database.number("SELECT floor FROM spillway.stream_head"); }
  long long kept() { return database.number("SELECT count(*) FROM spillway.broadcasts"); }

  Database database;
  PgConnection session{database.target()};
  RetentionStore store{session};
};

TEST_F(Broadcasts, HaveAPartitionReadyAheadOfTheHead) {
  EXPECT_EQ(partitions(), "-");
  EXPECT_EQ(extend(100), Outcome::done);
  EXPECT_EQ(partitions(), "-100 101-");
  EXPECT_EQ(extend(100), Outcome::nothing);
  tell(session, 1);
  EXPECT_EQ(extend(100), Outcome::done);
  EXPECT_EQ(partitions(), "-100 101-200 201-");
  tell(session, 99);
  EXPECT_EQ(extend(100), Outcome::nothing);
  tell(session, 1);
  EXPECT_EQ(extend(100), Outcome::done);
  EXPECT_EQ(extend(100), Outcome::nothing);
  EXPECT_EQ(partitions(), "-100 101-200 201-300 301-");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts_101"), 1);
}

TEST_F(Broadcasts, ThatOutrunThePartitionsAreWrittenAllTheSame) {
  ASSERT_EQ(extend(100), Outcome::done);
  for (int i = 0; i < 10; ++i) tell(session, 100);
  EXPECT_EQ(kept(), 1000);
  EXPECT_EQ(extend(100), Outcome::done);
  EXPECT_EQ(partitions(), "-100 101-1000 1001-1100 1101-");
  tell(session, 150);
  EXPECT_EQ(extend(100), Outcome::done);
  EXPECT_EQ(partitions(), "-100 101-1000 1001-1100 1101-1150 1151-1250 1251-");
  EXPECT_EQ(kept(), 1150);
}

TEST_F(Broadcasts, OfAPartitionThatIsTooLargeOrTooOldAreClosedAtTheHead) {
  ASSERT_EQ(extend(1000), Outcome::done);
  tell(session, 300);
  ASSERT_EQ(extend(1000), Outcome::done);
  EXPECT_EQ(extend(1000), Outcome::nothing);
  EXPECT_EQ(extend(100), Outcome::done) << "somebody keeps fewer from now on";
  EXPECT_EQ(partitions(), "-300 301-400 401-");
  tell(session, 10);
  EXPECT_EQ(store.extend_broadcasts(100, 1h), Outcome::done);
  EXPECT_EQ(store.extend_broadcasts(100, 1h), Outcome::nothing);
  age(310, "2 hours");
  EXPECT_EQ(store.extend_broadcasts(100, 1h), Outcome::done);
  EXPECT_EQ(partitions(), "-300 301-310 311-410 411-");
  EXPECT_EQ(store.extend_broadcasts(100, 1h), Outcome::nothing) << "an empty one has no age";
}

TEST_F(Broadcasts, AreDroppedWhenAllOfAPartitionIsOlder) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  tell(session, 20);
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::nothing);
  age(99, "2 hours");
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::nothing) << "one of it is recent";
  age(150, "2 hours");
  EXPECT_EQ(store.drop_broadcasts(3h, std::nullopt), Outcome::nothing);
  EXPECT_EQ(store.old_broadcasts(store.time_before_now(1h)).positions, 100);
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::done);
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::nothing);
  EXPECT_EQ(floor(), 100);
  EXPECT_EQ(kept(), 120);
  EXPECT_EQ(store.old_broadcasts(store.time_before_now(1h)).positions, 0);
  age(220, "2 hours");
  EXPECT_EQ(store.old_broadcasts(store.time_before_now(1h)).positions, 120);
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::done);
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::nothing)
      << "what is written to is never dropped";
  EXPECT_EQ(floor(), 200);
  EXPECT_EQ(store.extend_broadcasts(100, 1h), Outcome::done);
  EXPECT_EQ(store.drop_broadcasts(1h, std::nullopt), Outcome::done);
  EXPECT_EQ(floor(), 220);
  EXPECT_EQ(kept(), 0);
  tell(session, 5);
  EXPECT_EQ(database.value("SELECT min(position) || '-' || max(position) FROM spillway.broadcasts"),
            "221-225");
}

TEST_F(Broadcasts, AreDroppedBeyondTheCountOnceTheyAreSettled) {
  for (int i = 0; i < 5; ++i) {
    tell(session, 100);
    ASSERT_EQ(extend(100), Outcome::done);
  }
  EXPECT_EQ(store.drop_broadcasts(std::nullopt, 250), Outcome::nothing)
      << "servers that read from here need a moment";
  EXPECT_EQ(session.exec(drop_beyond(500)).integer(0, 0), 0);
  EXPECT_EQ(session.exec(drop_beyond(401)).integer(0, 0), 0);
  EXPECT_EQ(session.exec(drop_beyond(400)).integer(0, 0), 100);
  EXPECT_EQ(session.exec(drop_beyond(250)).integer(0, 0), 200);
  EXPECT_EQ(session.exec(drop_beyond(250)).integer(0, 0), 0);
  EXPECT_EQ(floor(), 200);
  EXPECT_EQ(kept(), 300);
}

TEST_F(Broadcasts, BelowTheFloorAreToldApartFromThoseThatWereNeverThere) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  tell(session, 50);
  ASSERT_EQ(session.exec(drop_beyond(50)).integer(0, 0), 100);
  OutboxReader reader(session);
  const auto page = reader.read_page({{"a:1"}, 10, 500});
  EXPECT_EQ(page.floor, 100u);
  EXPECT_EQ(page.broadcasts.size(), 50u);
  EXPECT_EQ(reader.read_page({{"a:1"}, std::nullopt, 500}).broadcasts.front().position, 101u);
  const auto behind = reader.read_after({"", 99, 0}, 500);
  EXPECT_EQ(behind.floor, 100u);
  EXPECT_TRUE(behind.batch.broadcasts.empty()) << "positions would be counted wrongly";
  EXPECT_EQ(reader.read_after({"", 100, 0}, 500).batch.broadcasts.size(), 50u);
}

// Why readers lock first: a dropped partition is gone for a snapshot that is older than the drop.
TEST_F(Broadcasts, AreGoneForOlderSnapshotsOfThoseWhoDoNotLockTheTable) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  PgConnection careless(database.target());
  careless.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  EXPECT_EQ(careless.exec("SELECT floor FROM spillway.stream_head").integer(0, 0), 0);
  ASSERT_EQ(session.exec(drop_beyond(0)).integer(0, 0), 100);
  EXPECT_EQ(careless.exec("SELECT floor FROM spillway.stream_head").integer(0, 0), 0);
  EXPECT_EQ(careless.exec("SELECT count(*) FROM spillway.broadcasts").integer(0, 0), 0);
}

TEST_F(Broadcasts, AreNotDroppedBetweenTheFloorAndTheRowsOfAPage) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  PgConnection connection(database.target());
  for (const auto& [statement, channel] : std::map<std::string, std::string>{
           {"sw_read_channel", "a:1"}, {"sw_read_prefixes", "a:*"}, {"sw_read_line", "a:1"}}) {
    int interrupted = 0;
    InterruptedSession reading(connection, statement, [&] {
      ++interrupted;
      EXPECT_TRUE(session.exec(drop_beyond(0)).is_null(0, 0)) << "dropped under a reader";
    });
    const auto page = OutboxReader(reading).read_page({{channel}, 0, 500});
    EXPECT_EQ(interrupted, 1);
    EXPECT_EQ(page.floor, 0u);
    EXPECT_EQ(page.broadcasts.size(), 100u);
  }
  int interrupted = 0;
  InterruptedSession reading(connection, "sw_read_durable", [&] {
    ++interrupted;
    EXPECT_TRUE(session.exec(drop_beyond(0)).is_null(0, 0));
  });
  EXPECT_EQ(OutboxReader(reading).read_after({"", 0, 0}, 500).batch.broadcasts.size(), 100u);
  EXPECT_EQ(interrupted, 1);

  ASSERT_EQ(session.exec(drop_beyond(0)).integer(0, 0), 100);
  const auto after = OutboxReader(connection).read_page({{"a:1"}, 0, 500});
  EXPECT_EQ(after.floor, 100u);
  EXPECT_TRUE(after.broadcasts.empty());
}

TEST_F(Broadcasts, AReaderThatComesDuringADropSeesTheFloorItLeaves) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  tell(session, 10);
  session.exec("BEGIN");
  ASSERT_EQ(session.exec(drop_beyond(10)).integer(0, 0), 100);
  PgConnection connection(database.target());
  sse::ReplayPage page;
  std::jthread reader([&] { page = OutboxReader(connection).read_page({{"a:1"}, 0, 500}); });
  EXPECT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock' AND "
               "relation = (SELECT oid FROM pg_class WHERE relname = 'broadcasts')") == 1;
  }));
  session.exec("COMMIT");
  reader.join();
  EXPECT_EQ(page.floor, 100u);
  EXPECT_EQ(page.broadcasts.size(), 10u);
}

TEST_F(Broadcasts, AreWrittenAndReadWhileALongReaderKeepsPartitionsFromComingAndGoing) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  PgConnection dump(database.target());
  dump.exec("BEGIN; SELECT count(*) FROM spillway.broadcasts");
  for (int i = 0; i < 30; ++i) {
    tell(session, 20);
    EXPECT_EQ(session.exec(drop_beyond(0)).is_null(0, 0), true);
    if (i > 5) {
      EXPECT_EQ(extend(100), Outcome::busy);
    }
  }
  EXPECT_EQ(kept(), 700);
  EXPECT_EQ(OutboxReader(session).read_page({{"a:1"}, 0, 1000}).broadcasts.size(), 700u);
  dump.exec("COMMIT");
  EXPECT_EQ(extend(100), Outcome::done);
  while (session.exec(drop_beyond(0)).integer(0, 0) > 0) {
  }
  EXPECT_EQ(floor(), 700);
}

TEST_F(Broadcasts, AreLeftInPeaceForSomeLooksByAnUpkeepThatWasInTheWay) {
  auto tasks = retention_upkeep({});
  PgConnection dump(database.target());
  dump.exec("BEGIN; SELECT count(*) FROM spillway.broadcasts");
  EXPECT_FALSE(tasks.front().run(session));
  dump.exec("COMMIT");
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(tasks.front().run(session)) << i;
  }
  EXPECT_EQ(partitions(), "-");
  EXPECT_EQ(tasks.front().run(session), 0ms);
  EXPECT_EQ(partitions(), "-1000000 1000001-");
}

// Somebody who uses one partition directly, as autovacuum does, must not make everybody wait.
TEST_F(Broadcasts, OfAPartitionThatIsUsedDirectlyStay) {
  tell(session, 100);
  ASSERT_EQ(extend(100), Outcome::done);
  PgConnection direct(database.target());
  direct.exec("BEGIN; LOCK TABLE spillway.broadcasts_1 IN SHARE UPDATE EXCLUSIVE MODE");
  EXPECT_TRUE(session.exec(drop_beyond(0)).is_null(0, 0));
  EXPECT_EQ(database.number("SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                            " WHERE c.relname = 'broadcasts' AND l.mode = 'AccessExclusiveLock'"),
            0);
  direct.exec("COMMIT");
  EXPECT_EQ(session.exec(drop_beyond(0)).integer(0, 0), 100);
}

TEST_F(Broadcasts, AreReadFromFewPartitionsWithGenericPlans) {
  for (int i = 0; i < 8; ++i) {
    tell(session, 100);
    ASSERT_EQ(extend(100), Outcome::done);
  }
  const auto plan = [&](const std::string& execute) {
    const Rows rows = session.exec("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + execute);
    std::string text;
    for (std::size_t row = 0; row < rows.size(); ++row) text += rows.string(row, 0) + "\n";
    return text;
  };
  const auto count = [](const std::string& text, const std::string& what) {
    int found = 0;
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
    return found;
  };
  session.exec("ANALYZE spillway.broadcasts");
  session.exec(
      "PREPARE tail(bigint, int) AS SELECT position, channel, event_type, data FROM "
      "spillway.broadcasts WHERE position > $1 ORDER BY position LIMIT $2");
  session.exec(
      "PREPARE page(text, bigint, int) AS SELECT position, channel, event_type, data FROM "
      "spillway.broadcasts WHERE channel = $1 AND position > $2 ORDER BY position LIMIT $3");
  for (const char* execute : {"EXECUTE tail(350, 20)", "EXECUTE page('a:1', 350, 20)"}) {
    const std::string text = plan(execute);
    EXPECT_NE(text.find("Subplans Removed: 3"), std::string::npos) << text;
    EXPECT_EQ(count(text, "Scan"), 8 + 2 - 3) << text;
    EXPECT_EQ(count(text, "never executed"), 8 + 2 - 3 - 1) << text;
    EXPECT_EQ(count(text, "Sort"), 0) << text;
  }
}

TEST_F(Broadcasts, KeepDensePositionsWhilePartitionsComeAndGo) {
  std::atomic<bool> stop{false};
  std::atomic<int> made{0}, dropped{0};
  std::atomic<int> problems{0};
  constexpr int writers = 3;
  constexpr int rounds = 150;
  {
    std::vector<std::jthread> upkeep;
    for (int i = 0; i < 2; ++i)
      upkeep.emplace_back([&] {
        PgConnection connection(database.target());
        RetentionStore keep(connection);
        while (!stop) {
          if (keep.extend_broadcasts(200, std::nullopt) == Outcome::done) ++made;
          const Rows rows = connection.exec(drop_beyond(1000));
          if (!rows.is_null(0, 0) && rows.integer(0, 0) > 0) ++dropped;
        }
      });
    upkeep.emplace_back([&] {
      PgConnection connection(database.target());
      OutboxReader reader(connection);
      std::uint64_t after = 0;
      while (!stop) {
        const auto page = reader.read_page({{"a:1"}, after, 70});
        after = std::max(after, page.floor);
        for (const auto& broadcast : page.broadcasts)
          if (broadcast.position != ++after) ++problems;
        if (page.upto != std::max(after, page.head.position) && page.upto != after) ++problems;
      }
    });
    std::vector<std::jthread> writing;
    for (int i = 0; i < writers; ++i)
      writing.emplace_back([&] {
        PgConnection connection(database.target());
        try {
          for (int round = 0; round < rounds; ++round) tell(connection, 50);
        } catch (const SqlError&) {
          ++problems;
        }
      });
    for (auto& thread : writing) thread.join();
    // What was written while no upkeep got the lock is one large partition.
    EXPECT_TRUE(eventually([&] {
      return floor() >= writers * rounds * 50 / 2 &&
             database.number("SELECT count(*) FROM spillway.broadcast_partitions") < 20;
    })) << partitions();
    stop = true;
  }
  EXPECT_EQ(problems, 0);
  EXPECT_GT(made, 5);
  EXPECT_GT(dropped, 5);
  EXPECT_EQ(database.number("SELECT last FROM spillway.stream_head"), writers * rounds * 50);
  EXPECT_EQ(kept(), writers * rounds * 50 - floor());
  EXPECT_EQ(database.number("SELECT max(position) - min(position) + 1 FROM spillway.broadcasts"),
            kept());
  EXPECT_LT(database.number("SELECT count(*) FROM spillway.broadcast_partitions"), 20);
}

TEST(BroadcastsMigration, TurnsThePlainTableIntoPartitionsUnderLoad) {
  Database database(false);
  PgConnection session(database.target());
  session.exec("CREATE SCHEMA spillway");
  apply_migrations(session, 1, before_partitions);
  tell(session, 1000);
  session.exec(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'news_reader') THEN"
      " CREATE ROLE news_reader; END IF; END$$;"
      "GRANT SELECT ON spillway.broadcasts TO news_reader;"
      "CREATE VIEW news WITH (security_barrier) AS"
      " SELECT position FROM spillway.broadcasts WHERE channel = 'a:1'");

  std::atomic<bool> stop{false};
  std::atomic<int> problems{0};
  std::vector<std::jthread> writers;
  for (int i = 0; i < 3; ++i)
    writers.emplace_back([&] {
      PgConnection connection(database.target());
      try {
        while (!stop) tell(connection, 10);
      } catch (const SqlError&) {
        ++problems;
      }
    });
  PgConnection dump(database.target());
  dump.exec("BEGIN; SELECT count(*) FROM spillway.broadcasts");
  std::atomic<bool> migrated{false};
  std::jthread migration([&] {
    PgConnection connection(database.target());
    apply_migrations(connection, before_partitions + 1, before_partitions + 1);
    migrated = true;
  });
  const auto head = [&] { return database.number("SELECT last FROM spillway.stream_head"); };
  const auto wait_for_writes = [&] {
    const auto from = head();
    EXPECT_TRUE(eventually([&] { return head() > from + 500; }));
  };
  wait_for_writes();
  EXPECT_FALSE(migrated) << "writers go on while the migration waits for a long reader";
  dump.exec("COMMIT");
  ASSERT_TRUE(eventually([&] { return migrated.load(); }));
  wait_for_writes();
  stop = true;
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(problems, 0);

  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcast_partitions"), 2);
  EXPECT_GT(database.number("SELECT count(*) FROM spillway.broadcasts_1"), 1500);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), head());
  EXPECT_EQ(database.number("SELECT max(position) FROM spillway.broadcasts"), head());
  EXPECT_EQ(database.number("SELECT count(*) FROM news"), head()) << "the view reads all of it";
  EXPECT_EQ(database.value("SELECT reloptions::text FROM pg_class WHERE relname = 'news'"),
            "{security_barrier=true}");
  EXPECT_EQ(database.value(
                "SELECT has_table_privilege('news_reader', 'spillway.broadcasts', 'SELECT')"
                " AND NOT has_table_privilege('news_reader', 'spillway.broadcasts', 'INSERT')"),
            "t");
  RetentionStore store(session);
  while (store.extend_broadcasts(100, std::nullopt) == Outcome::done) {
  }
  // It leaves the lock to others while one of them has used the table for long, autovacuum say.
  std::int64_t dropped = 0;
  EXPECT_TRUE(eventually([&] {
    dropped = session.exec("SELECT spillway.drop_broadcasts(NULL, 0, 'infinity')").integer(0, 0);
    return dropped > 0;
  }));
  EXPECT_GT(dropped, 1500);
}

class Prune : public testing::Test {
 protected:
  // An event that was created `age` ago and done at once.
  long long done(const std::string& age, const std::string& columns = "",
                 const std::string& values = "") {
    const long long id = insert(age, columns, values);
    database.query("DELETE FROM spillway.queue WHERE event_id = " + std::to_string(id) +
                   "; DELETE FROM spillway.scheduled WHERE event_id = " + std::to_string(id));
    return id;
  }
  long long insert(const std::string& age, const std::string& columns = "",
                   const std::string& values = "") {
    return database.number("INSERT INTO spillway.events (type, created_at" + columns +
                           ") VALUES ('A', now() - interval '" + age + "'" + values +
                           ") RETURNING id");
  }
  long long old_done(const std::string& columns = "", const std::string& values = "") {
    return done("40 days", ", execute_at" + columns, ", now() - interval '40 days'" + values);
  }
  long long prune(bool dead = false, bool dry_run = false, std::size_t batch = 100) {
    EventPruner pruner({store.time_before_now(24h * 30), batch, dead, dry_run});
    long long pruned = 0;
    for (int i = 0; i < 1000; ++i) {
      const auto step = pruner.step(session);
      EXPECT_FALSE(step.busy);
      pruned += step.pruned;
      if (step.last) return pruned;
    }
    ADD_FAILURE() << "it does not end";
    return pruned;
  }
  std::string left() {
    return database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM spillway.events");
  }

  Database database;
  PgConnection session{database.target()};
  RetentionStore store{session};
};

TEST_F(Prune, RemovesDoneEventsThatAreOldAndNothingElse) {
  old_done();                                                       // 1
  insert("40 days");                                                // 2: pending
  insert("40 days", ", execute_at", ", now() + interval '1 day'");  // 3: scheduled
  done("40 days", ", execute_at", ", now() - interval '1 day'");    // 4: ran yesterday
  const long long retrying = old_done(", stream", ", 's'");         // 5
  const long long dead = old_done();                                // 6
  const long long sending = old_done();                             // 7
  const long long sent = old_done();                                // 8
  done("20 days");                                                  // 9
  old_done();                                                       // 10, behind a recent one
  database.query(
      "INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at) VALUES (" +
      std::to_string(retrying) + ", 0, 's', 1, now());" +
      "INSERT INTO spillway.dead_letters (event_id, error, attempts, failed_at) VALUES (" +
      std::to_string(dead) + ", 'no', 5, now() - interval '40 days');" +
      "INSERT INTO spillway.webhooks (event_id, correlation_id, url, host, payload, status, "
      "finished_at) VALUES (" +
      std::to_string(sending) + ", gen_random_uuid(), 'u', 'h', '1', 'failed', NULL), (" +
      std::to_string(sent) + ", gen_random_uuid(), 'u', 'h', '1', 'sent', now())");
  EXPECT_EQ(prune(false, true), 3);
  EXPECT_EQ(left(), "1 2 3 4 5 6 7 8 9 10") << "a dry run removes nothing";
  EXPECT_EQ(prune(), 3);
  EXPECT_EQ(left(), "2 3 4 5 6 7 9");
  EXPECT_EQ(prune(), 0);
  EXPECT_EQ(prune(true, true), 1);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 1);
  EXPECT_EQ(prune(true), 1);
  EXPECT_EQ(left(), "2 3 4 5 7 9");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
}

TEST_F(Prune, LeavesADeadEventWhoseLetterIsRecentOrThatIsBeingRetried) {
  old_done();
  old_done();
  database.query(
      "INSERT INTO spillway.dead_letters (event_id, error, attempts, failed_at) VALUES"
      " (1, 'no', 5, now() - interval '1 day'), (2, 'no', 5, now() - interval '40 days')");
  PgConnection other(database.target());
  other.exec("BEGIN; DELETE FROM spillway.dead_letters WHERE event_id = 2");
  EXPECT_EQ(prune(true), 0);
  other.exec("ROLLBACK");
  EXPECT_EQ(prune(true), 1);
  EXPECT_EQ(left(), "1");
}

TEST_F(Prune, GoesThroughTheLogInStepsPastWhatStays) {
  database.query(
      "INSERT INTO spillway.events (type, created_at, execute_at) SELECT 'A', now() - interval '40 "
      "days',"
      " now() - interval '40 days' FROM generate_series(1, 1000);"
      "DELETE FROM spillway.queue WHERE event_id % 10 <> 0");
  done("1 day");
  EventPruner pruner({store.time_before_now(24h * 30), 64, false, false});
  EXPECT_EQ(pruner.end(session), 1001);
  long long pruned = 0;
  std::int64_t last = 0;
  for (bool more = true; more;) {
    const auto step = pruner.step(session);
    EXPECT_LE(step.looked_at, 64);
    EXPECT_GT(pruner.last_id(), last);
    last = pruner.last_id();
    pruned += step.pruned;
    more = !step.last;
  }
  EXPECT_EQ(pruned, 900);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 101);
}

TEST_F(Prune, EndsAtTheFirstStepOfRecentEvents) {
  old_done();
  database.query("INSERT INTO spillway.events (type) SELECT 'A' FROM generate_series(1, 300)");
  EventPruner pruner({store.time_before_now(24h * 30), 100, false, false});
  EXPECT_FALSE(pruner.step(session).last);
  EXPECT_TRUE(pruner.step(session).last);
  EXPECT_EQ(pruner.last_id(), 200);
}

TEST_F(Prune, KeepsTheNewestVersionOfEachStream) {
  for (int version = 1; version <= 3; ++version)
    old_done(", stream, stream_version", ", 'order:1', " + std::to_string(version));
  old_done(", stream, stream_version", ", 'order:2', 1");
  old_done(", stream", ", 'order:1'");
  EXPECT_EQ(prune(), 3);
  EXPECT_EQ(left(), "3 4");
  EXPECT_EQ(database.number("SELECT spillway.stream_version('order:1')"), 3);
  EXPECT_EQ(state_of(session, "SELECT spillway.append('order:1', 1, 'B')"), "40001");
  EXPECT_EQ(state_of(session, "SELECT spillway.append('order:1', 3, 'B')"), "");
  EXPECT_EQ(state_of(session, "SELECT spillway.append('order:2', 1, 'B')"), "");
  EXPECT_EQ(prune(), 2) << "they are not the newest any more";
  EXPECT_EQ(database.number("SELECT spillway.stream_version('order:1')"), 4);
}

TEST_F(Prune, ForgetsIdempotencyKeysWithTheirEvents) {
  old_done(", idempotency_key", ", 'k'");
  EXPECT_EQ(
      state_of(session, "INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k')"),
      "23505");
  EXPECT_EQ(prune(), 1);
  EXPECT_EQ(
      state_of(session, "INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k')"),
      "");
}

TEST_F(Prune, AnEventThatIsJustBeingInsertedIsNotDone) {
  PgConnection writer(database.target());
  writer.exec(
      "BEGIN; INSERT INTO spillway.events (type, created_at, execute_at) VALUES"
      " ('A', now() - interval '40 days', now() - interval '40 days')");
  EXPECT_EQ(prune(), 0);
  writer.exec("COMMIT");
  EXPECT_EQ(prune(), 0);
  EXPECT_EQ(left(), "1");
}

TEST_F(Prune, IsDoneByOneAtATime) {
  old_done();
  PgConnection other(database.target());
  other.exec("BEGIN; SELECT * FROM spillway.prune_events(now() - interval '30 days')");
  EventPruner pruner({store.time_before_now(24h * 30), 100, false, false});
  EXPECT_TRUE(pruner.step(session).busy);
  other.exec("ROLLBACK");
  EXPECT_EQ(pruner.step(session).pruned, 1);
}

TEST_F(Prune, IsTheOnlyWayToDeleteFromTheLog) {
  old_done();
  old_done();
  session.exec(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'deleter') THEN"
      " CREATE ROLE deleter; END IF; END$$;"
      "GRANT ALL ON ALL TABLES IN SCHEMA spillway TO deleter");
  const std::string pretend = "SET spillway.pruning = 'on'; ";
  session.exec("SET ROLE deleter");
  EXPECT_EQ(state_of(session, "SELECT spillway.prune_events(now())"), "42501");
  EXPECT_EQ(state_of(session, "SELECT spillway.drop_broadcasts(now(), 0, now())"), "42501");
  EXPECT_EQ(state_of(session, "SELECT spillway.extend_broadcasts(100)"), "42501");
  EXPECT_EQ(state_of(session, "SELECT spillway.lock_broadcasts()"), "42501");
  for (const char* statement : {"DELETE FROM spillway.events", "TRUNCATE spillway.events",
                                "UPDATE spillway.events SET type = 'B'"}) {
    EXPECT_EQ(state_of(session, statement), "P0001") << statement;
    EXPECT_EQ(state_of(session, pretend + statement), "P0001") << statement;
  }
  // Nor with operators that call everything equal.
  session.exec(
      "RESET ROLE; RESET spillway.pruning; CREATE SCHEMA trick AUTHORIZATION deleter;"
      "SET ROLE deleter; SET search_path = trick, pg_catalog;"
      "CREATE FUNCTION same(oid, oid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
      "CREATE OPERATOR trick.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = same)");
  EXPECT_EQ(state_of(session, pretend + "DELETE FROM spillway.events"), "P0001");
  session.exec("RESET search_path; RESET ROLE; RESET spillway.pruning");
  EXPECT_EQ(state_of(session, "DELETE FROM spillway.events"), "P0001") << "not by mistake either";
  for (const char* statement :
       {"TRUNCATE spillway.events", "UPDATE spillway.events SET type = 'B'"})
    EXPECT_EQ(state_of(session, pretend + statement), "P0001") << statement;
  session.exec("RESET spillway.pruning; BEGIN");
  session.exec("SELECT * FROM spillway.prune_events(now() - interval '30 days', 0, 1)");
  EXPECT_EQ(state_of(session, "DELETE FROM spillway.events"), "P0001") << "the door is shut again";
  session.exec("ROLLBACK");
  EXPECT_EQ(left(), "1 2");
}

TEST_F(Prune, RemovesFinishedWebhooksAndResponsesInSteps) {
  database.query(
      "INSERT INTO spillway.webhooks (event_id, correlation_id, url, host, payload, status, "
      "created_at,"
      " finished_at) SELECT g, gen_random_uuid(), 'u', 'h', '1', CASE WHEN g <= 25 THEN 'sent' ELSE"
      " 'pending' END, now() - interval '40 days', CASE WHEN g <= 25 THEN now() - g * interval '2 "
      "days' END"
      " FROM generate_series(1, 30) g;"
      "INSERT INTO spillway.results (event_id, response, created_at) SELECT g, '1', now() - g * "
      "interval"
      " '2 days' FROM generate_series(1, 20) g");
  const std::string before = store.time_before_now(24h * 30);
  EXPECT_EQ(store.prune_webhooks(before, 100, true), 11u);
  EXPECT_EQ(store.prune_webhooks(before, 8), 8u);
  EXPECT_EQ(store.prune_webhooks(before, 8), 3u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.webhooks"), 19);
  EXPECT_EQ(store.prune_results(before, 100, true), 6u);
  EXPECT_EQ(store.prune_results(before, 4), 4u);
  EXPECT_EQ(store.prune_results(before, 4), 2u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.results"), 14);
}

TEST_F(Prune, IsPartOfTheUpkeepWhenAsked) {
  const auto run_all = [&](const RetentionOptions& options) {
    for (MaintenanceTask& task : retention_upkeep(options))
      for (int i = 0; i < 100; ++i)
        if (!task.run(session)) break;
  };
  for (int i = 0; i < 25; ++i) old_done();
  done("1 day");
  RetentionOptions options;
  options.batch = 10;
  run_all(options);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 26) << "kept for ever";
  options.events = 24h * 30;
  run_all(options);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcast_partitions"), 2);
}

TEST(Retention, PartitionsAreATenthOfWhatIsKept) {
  RetentionOptions options;
  EXPECT_EQ(partition_rows(options), 1'000'000);
  options.broadcasts_count = 10'000;
  EXPECT_EQ(partition_rows(options), 1'000);
  options.broadcasts_count = 10;
  EXPECT_EQ(partition_rows(options), 100);
  options.broadcasts_count.reset();
  EXPECT_EQ(partition_rows(options), 1'000'000);
}

TEST(Retention, StepsTakeAFifthOfTheTime) {
  EXPECT_EQ(pause_after(50ms), 200ms);
  EXPECT_EQ(pause_after(std::chrono::microseconds(100)), 1ms);
}

}  // namespace
}  // namespace spillway
