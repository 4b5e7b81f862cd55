// PgBouncer in transaction mode between everything and the database: any two transactions of a
// connection may run on different server connections.
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "tests/support/pgbouncer.hpp"
#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr int writers = 4;
constexpr int events_of_each = 150;
constexpr int streams_of_each = 5;

class Pooling : public testing::Test {
 protected:
  void SetUp() override {
    if (!PgBouncer::available())
      GTEST_SKIP() << "pgbouncer is not installed: scripts/prepare --tests does it";
    bouncer.emplace(database.name());
    database.query("CREATE TABLE good (n int)");
  }

  // Each writer has streams of its own; what came of a lost connection is not known, so its event
  // is sent again.
  void write_everything() {
    std::vector<std::jthread> threads;
    for (int writer = 0; writer < writers; ++writer)
      threads.emplace_back([this, writer] {
        std::unique_ptr<PgConnection> connection;
        for (int i = 0; i < events_of_each; ++i) {
          const int n = writer * events_of_each + i;
          const std::string channel = "Talk:" + std::to_string(n % 7);
          const json payload = {
              {"do",
               {{{"insert", {{"table", "good"}, {"data", {{"n", n}}}}}},
                {{"tell", {{"channel", channel}, {"event_type", "said"}, {"data", n}}}}}}};
          const std::string sql =
              "INSERT INTO spillway.events (type, stream, idempotency_key, payload) VALUES"
              " ('Told', 'w" +
              std::to_string(writer) + "." + std::to_string(i % streams_of_each) + "', 'k" +
              std::to_string(n) + "', " + sql_quoted(payload.dump()) + ") ON CONFLICT DO NOTHING";
          insist([&] {
            try {
              if (!connection)
                connection = std::make_unique<PgConnection>(PgTarget{bouncer->url(), "writer"});
              connection->exec(sql);
            } catch (const ConnectionLost&) {
              connection.reset();
              throw;
            }
          });
          ++written;
        }
      });
  }

  // Once each, in the order of the streams, without a hole.
  void expect_everything_done() {
    constexpr int all = writers * events_of_each;
    EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));
    EXPECT_EQ(database.number("SELECT count(*) FROM good"), all);
    EXPECT_EQ(database.number("SELECT count(DISTINCT n) FROM good"), all);
    EXPECT_EQ(database.value("SELECT concat_ws(' ', min(position), max(position), count(*))"
                             " FROM spillway.broadcasts"),
              "1 " + std::to_string(all) + " " + std::to_string(all));
    EXPECT_EQ(database.number(
                  "SELECT count(*) FROM (SELECT b.event_id,"
                  " lag(b.event_id) OVER (PARTITION BY e.stream ORDER BY b.position) AS before"
                  " FROM spillway.broadcasts b JOIN spillway.events e ON e.id = b.event_id) o"
                  " WHERE before > event_id"),
              0);
    EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status <> 'done'"),
              0);
  }

  std::vector<std::string> through_pooler(bool direct) const {
    std::vector<std::string> options{"--handlers", test_handlers(), "--batch", "20"};
    if (direct) options.insert(options.end(), {"--direct-url", database.url()});
    return options;
  }

  Database database;
  std::optional<PgBouncer> bouncer;
  std::atomic<int> written{0};
};

bool polls(Worker& worker) {
  return worker.process().errors().find("polling once a second") != std::string::npos;
}

TEST_F(Pooling, is_found_out_by_asking) {
  EXPECT_TRUE(PgConnection({bouncer->url()}).pooled());
  EXPECT_FALSE(PgConnection(database.target()).pooled());
  PgTarget target{bouncer->url()};
  target.direct_url = database.url();
  EXPECT_FALSE(PgConnection(target.direct()).pooled());
}

TEST_F(Pooling, a_session_leaves_nothing_behind_and_misses_nothing) {
  PgTarget target{bouncer->url()};
  target.limits = {1234ms, 5678ms, 4321ms, 1000ms};
  PgConnection ours(target);
  const Statement named{"sw_test", "SELECT $1::int + 1"};
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(ours.run(named, {"41"}).integer(0, 0), 42);
    EXPECT_EQ(ours.exec("SHOW TimeZone").string(0, 0), "UTC");
    ours.exec("BEGIN ISOLATION LEVEL READ COMMITTED");
    EXPECT_EQ(ours.exec("SHOW lock_timeout").string(0, 0), "1234ms");
    EXPECT_EQ(ours.exec("SHOW statement_timeout").string(0, 0), "5678ms");
    EXPECT_EQ(ours.exec("SHOW idle_in_transaction_session_timeout").string(0, 0), "4321ms");
    EXPECT_EQ(ours.exec("SHOW jit").string(0, 0), "off");
    EXPECT_EQ(ours.run(named, {"1"}).integer(0, 0), 2);
    ours.exec("COMMIT");
  }
  PgTarget plain{bouncer->url() + "&application_name=somebody"};
  PgConnection somebody(plain);
  const auto own = [&](const char* name) { return database.value(std::string("SHOW ") + name); };
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(somebody.exec("SHOW lock_timeout").string(0, 0), "0");
    EXPECT_EQ(somebody.exec("SHOW statement_timeout").string(0, 0), "0");
    EXPECT_EQ(somebody.exec("SHOW jit").string(0, 0), "on");
    EXPECT_EQ(somebody.exec("SELECT count(*) FROM pg_prepared_statements").integer(0, 0), 0);
  }
  EXPECT_EQ(own("jit"), "off") << "a session of our own has it";
}

TEST_F(Pooling, a_worker_with_a_way_past_the_pooler_is_notified) {
  Worker worker(bouncer->url(), through_pooler(true));
  worker.wait_until_ready();
  Subscriber subscriber("/sse?channel=Talk:*", [&] { return worker.port(); });
  ASSERT_TRUE(eventually([&] { return subscriber.connected(); }));
  write_everything();
  expect_everything_done();
  EXPECT_FALSE(polls(worker)) << worker.process().errors();
  EXPECT_EQ(database.value("SELECT pooled FROM spillway.live_workers"), "f");
  const auto wanted = broadcasts_where(database, "true");
  EXPECT_TRUE(eventually([&] { return subscriber.count() >= wanted.size(); }));
  EXPECT_EQ(first_difference(subscriber.seen(), wanted), "");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.workers"), 0);
}

TEST_F(Pooling, a_worker_without_one_polls) {
  Worker worker(bouncer->url(), through_pooler(false));
  worker.wait_until_ready();
  Subscriber subscriber("/sse?channel=Talk:*", [&] { return worker.port(); });
  ASSERT_TRUE(eventually([&] { return subscriber.connected(); }));
  EXPECT_TRUE(eventually(
      [&] { return database.value("SELECT pooled FROM spillway.live_workers") == "t"; }));
  EXPECT_TRUE(polls(worker)) << worker.process().errors();
  write_everything();
  expect_everything_done();
  const auto wanted = broadcasts_where(database, "true");
  EXPECT_TRUE(eventually([&] { return subscriber.count() >= wanted.size(); }));
  EXPECT_EQ(first_difference(subscriber.seen(), wanted), "");
  // An idle worker finds a lone event by its poll, within a few of them on a busy machine.
  database.query("INSERT INTO spillway.events (type) VALUES ('Lone')");
  EXPECT_TRUE(eventually([&] { return drained(database); }, 5s));
  EXPECT_TRUE(eventually([&] { return http(worker.port(), "GET", "/readyz").status == 200; }));
  const auto answer = http(worker.port(), "POST", "/events?wait=10", R"({"type":"Asked"})");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.workers"), 0);
}

TEST_F(Pooling, both_kinds_share_the_work_and_a_killed_one_is_taken_over) {
  Worker direct(bouncer->url(), through_pooler(true));
  Worker polling(bouncer->url(), through_pooler(false));
  auto killed = std::make_unique<Worker>(bouncer->url(), through_pooler(false));
  for (Worker* worker : {&direct, &polling, killed.get()}) worker->wait_until_ready();
  EXPECT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 3; }));
  {
    std::jthread load([this] { write_everything(); });
    eventually([&] { return written > writers * events_of_each / 2; });
    killed->kill();
  }
  expect_everything_done();
  // No lock tells of its end, so it counts until it has not been seen for a while.
  EXPECT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 2; }, 30s));
  // Then the others take its row for an unclean end.
  EXPECT_TRUE(
      eventually([&] { return database.number("SELECT count(*) FROM spillway.workers") == 2; }));
  EXPECT_EQ(direct.stop(), 0);
  EXPECT_EQ(polling.stop(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.workers"), 0);
}

TEST_F(Pooling, a_killed_pooler_is_waited_for) {
  Worker direct(bouncer->url(), through_pooler(true));
  Worker polling(bouncer->url(), through_pooler(false));
  direct.wait_until_ready();
  polling.wait_until_ready();
  {
    std::jthread load([this] { write_everything(); });
    for (int kill = 1; kill <= 4; ++kill) {
      eventually([&] { return written > kill * writers * events_of_each / 6; });
      bouncer->kill();
      bouncer->start();
    }
  }
  expect_everything_done();
  EXPECT_EQ(direct.stop(), 0);
  EXPECT_EQ(polling.stop(), 0);
  for (Worker* worker : {&direct, &polling})
    EXPECT_EQ(worker->process().errors().find("dead letter"), std::string::npos)
        << worker->process().errors();
}

TEST_F(Pooling, every_command_works_through_it) {
  const auto spillway = [&](std::vector<std::string> words) {
    words.insert(words.begin(), spillway_binary());
    return run(words, {{"DATABASE_URL", bouncer->url()}});
  };
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"migrate"},
                                             {"migrate", "--status"},
                                             {"enqueue", "A", "{}"},
                                             {"status", "--json"},
                                             {"trace", "00000000-0000-0000-0000-000000000000"}}) {
    const auto result = spillway(words);
    const bool unknown = words.front() == "trace";  // there is no such correlation
    EXPECT_EQ(result.exit_code, unknown ? result.exit_code : 0) << words.front() << result.errors;
    EXPECT_EQ(result.errors.find("SQLSTATE"), std::string::npos) << result.errors;
  }
  const auto correlation = database.value("SELECT correlation_id FROM spillway.events");
  const auto trace = spillway({"trace", correlation});
  EXPECT_EQ(trace.exit_code, 0) << trace.errors;
  EXPECT_NE(trace.output.find("+00"), std::string::npos) << "times are UTC: " << trace.output;
  const auto tried = spillway({"try", "--event", "1", "--handlers", test_handlers()});
  EXPECT_EQ(tried.exit_code, 0) << tried.errors;

  Worker worker(bouncer->url(), through_pooler(false));
  worker.wait_until_ready();
  database.query(R"(INSERT INTO spillway.events (type, payload) VALUES ('B', '{"do":[{"tell":)"
                 R"({"channel":"Talk:a","event_type":"said","data":"heard"}}]}'))");
  const auto tail = spillway({"tail", "Talk:a", "--from", "earliest", "--count", "1"});
  EXPECT_EQ(tail.exit_code, 0) << tail.errors;
  EXPECT_NE(tail.output.find("heard"), std::string::npos) << tail.output;
  EXPECT_EQ(worker.stop(), 0);

  // An empty database can be migrated through it.
  Database empty(false);
  PgBouncer another(empty.name());
  const auto migrated = run({spillway_binary(), "migrate", "--database-url", another.url()});
  EXPECT_EQ(migrated.exit_code, 0) << migrated.errors;
}

TEST_F(Pooling, that_is_denied_is_noticed_and_named) {
  Process worker({spillway_binary(), "run", "--database-url", bouncer->url(), "--pooler", "none",
                  "--handlers", test_handlers(), "--listen", "127.0.0.1:0", "--runners", "4"});
  EXPECT_EQ(worker.wait(), 2) << worker.errors();
  EXPECT_NE(worker.errors().find("this looks like a pooler in transaction mode; write --pooler "
                                 "transaction"),
            std::string::npos)
      << worker.errors();
}

}  // namespace
}  // namespace spillway::test
