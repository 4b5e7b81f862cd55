// Whatever a batch waits for, and whatever becomes of its process: its lanes come free in time.
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "processor/queue_store.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

class Timeouts : public testing::Test {
 protected:
  void SetUp() override {
    database.query(
        "CREATE TABLE good (n int); CREATE TABLE item (id int PRIMARY KEY, n int);"
        "INSERT INTO item VALUES (1, 0)");
  }

  void insert(const std::string& stream, const json& step) {
    const json payload = {{"do", step.is_array() ? step : json::array({step})}};
    database.query("INSERT INTO spillway.events (type, stream, payload) VALUES ('Told', " +
                   sql_quoted(stream) + ", " + sql_quoted(payload.dump()) + ")");
  }
  static json good(int n) { return {{"insert", {{"table", "good"}, {"data", {{"n", n}}}}}}; }
  static json update(int n) {
    return {{"update", {{"table", "item"}, {"set", {{"n", n}}}, {"where", {{"id", 1}}}}}};
  }
  long long done() { return database.number("SELECT count(*) FROM good"); }
  std::string state(const std::string& stream) {
    return database.value(
        "SELECT string_agg(status, ' ' ORDER BY s.event_id) FROM spillway.event_status s"
        " JOIN spillway.events e ON e.id = s.event_id WHERE e.stream = '" +
        stream + "'");
  }
  // Effects on `gate` wait until the test lets go of this lock.
  void make_gate() {
    database.query(
        "CREATE TABLE gate (n int);"
        "CREATE FUNCTION wait_for_7() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END';"
        "CREATE TRIGGER wait AFTER INSERT ON gate FOR EACH ROW EXECUTE FUNCTION wait_for_7()");
  }
  // The application name of a session that waits at the gate; "" when none does.
  std::string waits_at_gate() {
    return database.value(
        "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)"
        " WHERE locktype = 'advisory' AND objid = 7 AND NOT granted LIMIT 1");
  }
  // Sessions of an application that own lanes.
  long long owners(const std::string& application) {
    return database.number(
        "SELECT count(DISTINCT pid) FROM pg_stat_activity JOIN pg_locks USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND classid = " +
        std::to_string(lane_lock_class) + " AND application_name = '" + application + "'");
  }

  Database database;
};

TEST_F(Timeouts, an_event_that_waits_for_a_foreign_lock_goes_later_and_its_neighbours_do_not) {
  PgConnection foreign(database.target());
  foreign.exec("BEGIN");
  foreign.exec("UPDATE item SET n = -1 WHERE id = 1");
  // As one batch, so that the event at fault has to be found among the others.
  insert("blocked", update(1));
  insert("blocked", update(2));
  for (int n = 0; n < 40; ++n) insert("free" + std::to_string(n % 5), good(n));
  Worker worker(database.url(), {"--handlers", test_handlers(), "--runners", "2", "--lock-timeout",
                                 "1s", "--batch-timeout", "5s", "--handler-timeout", "2s",
                                 "--retry-delay", "100ms", "--max-attempts", "2"});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return done() == 40; }));
  EXPECT_TRUE(eventually([&] { return state("blocked") == "retrying pending"; }))
      << state("blocked");
  EXPECT_TRUE(eventually([&] {
    return database.value("SELECT last_error FROM spillway.event_status WHERE event_id = 1")
               .find("lock timeout") != std::string::npos;
  }));
  // However often: somebody else's lock makes no dead letter.
  EXPECT_TRUE(eventually([&] {
    return database.number("SELECT attempts FROM spillway.event_status WHERE event_id = 1") >= 4;
  }));
  // Others go on meanwhile.
  insert("free", good(40));
  EXPECT_TRUE(eventually([&] { return done() == 41; }));
  EXPECT_EQ(state("blocked"), "retrying pending");
  foreign.exec("COMMIT");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(state("blocked"), "done done");
  EXPECT_EQ(database.number("SELECT n FROM item"), 2);
  EXPECT_EQ(done(), 41);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(Timeouts, a_table_that_is_locked_holds_up_its_events_and_no_others) {
  PgConnection foreign(database.target());
  foreign.exec("BEGIN");
  foreign.exec("LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
  for (int n = 0; n < 100; ++n) {
    insert("item" + std::to_string(n), update(n));
    insert("free" + std::to_string(n), good(n));
  }
  Worker worker(database.url(), {"--handlers", test_handlers(), "--runners", "1", "--lock-timeout",
                                 "1s", "--batch-timeout", "20s", "--retry-delay", "100ms"});
  EXPECT_TRUE(eventually([&] { return done() == 100; }, 60s)) << done();
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  foreign.exec("COMMIT");
  EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status <> 'done'"),
            0);
}

TEST_F(Timeouts, a_frozen_process_loses_its_lanes_and_does_nothing_twice_when_it_thaws) {
  make_gate();
  PgConnection gate(database.target());
  gate.exec("SELECT pg_advisory_lock(7)");
  const std::vector<std::string> options{"--handlers",        test_handlers(),
                                         "--runners",         "2",
                                         "--lock-timeout",    "5s",
                                         "--batch-timeout",   "6s",
                                         "--handler-timeout", "2s"};
  Worker first(database.url() + "&application_name=first", options);
  first.wait_until_ready();
  const json to_gate{{"insert", {{"table", "gate"}, {"data", {{"n", 1}}}}}};
  insert("gate", to_gate);
  ASSERT_TRUE(eventually([&] { return waits_at_gate() == "first"; }));
  first.process().signal(SIGSTOP);
  gate.exec("SELECT pg_advisory_unlock(7)");
  // What ends the transaction has been sent with the statement that waits.
  EXPECT_TRUE(eventually([&] { return owners("first") == 0; }));
  EXPECT_EQ(database.number("SELECT count(*) FROM gate"), 1);
  first.process().signal(SIGCONT);
  EXPECT_TRUE(eventually([&] { return drained(database); }));

  // While a handler runs nobody would end it.
  insert("slow", json::array({{{"sleep_ms", 1000}}, to_gate}));
  ASSERT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'first'"
               " AND state = 'idle in transaction'") > 0;
  }));
  first.process().signal(SIGSTOP);
  EXPECT_GE(owners("first"), 1);

  Worker second(database.url() + "&application_name=second", options);
  second.wait_until_ready();
  for (int n = 0; n < 100; ++n) insert("s" + std::to_string(n), good(n));
  EXPECT_TRUE(eventually([&] { return drained(database); }, 30s));
  EXPECT_EQ(done(), 100);
  EXPECT_EQ(database.number("SELECT count(*) FROM gate"), 2);

  first.process().signal(SIGCONT);
  for (int n = 100; n < 200; ++n) insert("s" + std::to_string(n), good(n));
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(second.stop(), 0);
  // The one that was frozen is as good as before.
  for (int n = 200; n < 300; ++n) insert("s" + std::to_string(n), good(n));
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(first.stop(), 0);
  EXPECT_EQ(done(), 300);
  EXPECT_EQ(database.number("SELECT count(DISTINCT n) FROM good"), 300);
  EXPECT_EQ(database.number("SELECT count(*) FROM gate"), 2);
}

TEST_F(Timeouts, a_session_that_waits_for_a_frozen_process_to_read_is_ended) {
  Process psql({"psql", "-X", "-q", database.url() + "&application_name=frozen", "-c", "BEGIN",
                "-c", "SELECT pg_advisory_xact_lock(" + std::to_string(lane_lock_class) + ", 3)",
                "-c", "SELECT repeat('x', 1000) FROM generate_series(1, 2000000)"});
  ASSERT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'frozen' AND "
               "query LIKE '%repeat%'") == 1;
  }));
  psql.signal(SIGSTOP);
  ASSERT_TRUE(eventually([&] {
    return database.value(
               "SELECT wait_event FROM pg_stat_activity WHERE application_name = "
               "'frozen'") == "ClientWrite";
  }));
  ASSERT_EQ(owners("frozen"), 1);
  Worker worker(database.url(), {"--handlers", test_handlers(), "--lock-timeout", "1s",
                                 "--batch-timeout", "3s", "--handler-timeout", "1s"});
  EXPECT_TRUE(eventually([&] { return owners("frozen") == 0; }, 40s));
}

TEST_F(Timeouts, a_killed_processs_lanes_are_taken_over_at_once) {
  make_gate();
  PgConnection gate(database.target());
  gate.exec("SELECT pg_advisory_lock(7)");
  // Timeouts long enough to have no part in it.
  const std::vector<std::string> options{
      "--handlers", test_handlers(),   "--runners", "2", "--lock-timeout",
      "5m",         "--batch-timeout", "10m"};
  Worker first(database.url() + "&application_name=first", options);
  Worker second(database.url() + "&application_name=second", options);
  first.wait_until_ready();
  second.wait_until_ready();
  ASSERT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 2; }));
  insert("gate", {{"insert", {{"table", "gate"}, {"data", {{"n", 1}}}}}});
  ASSERT_TRUE(eventually([&] { return !waits_at_gate().empty(); }));
  const std::string holder = waits_at_gate();
  const std::string other = holder == "first" ? "second" : "first";
  (holder == "first" ? first : second).kill();
  // Even though its session still waits.
  EXPECT_TRUE(eventually([&] { return waits_at_gate() == other; })) << waits_at_gate();
  EXPECT_EQ(owners(holder), 0);
  gate.exec("SELECT pg_advisory_unlock(7)");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.number("SELECT count(*) FROM gate"), 1);
  EXPECT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 1; }));
  EXPECT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM spillway.workers") == 1;
  })) << "the row of the killed one tells the other of its end";
  for (int n = 0; n < 100; ++n) insert("s" + std::to_string(n), good(n));
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ((holder == "first" ? second : first).stop(), 0);
}

TEST_F(Timeouts, that_make_no_sense_are_refused) {
  for (const auto& [options, words] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--lock-timeout", "1ms"}, "20ms at least"},
           {{"--batch-timeout", "1s"}, "3s at least"},
           {{"--lock-timeout", "2s", "--batch-timeout", "10s"},
            "write a second more than --handler-timeout, which is 10s, at least"},
           {{"--lock-timeout", "1m", "--batch-timeout", "30s"},
            "write more than --lock-timeout"}}) {
    std::vector<std::string> command{spillway_binary(), "run", "--database-url", database.url()};
    command.insert(command.end(), options.begin(), options.end());
    const auto result = run(command);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    EXPECT_NE(result.errors.find(words), std::string::npos) << result.errors;
  }
}

}  // namespace
}  // namespace spillway::test
