// Schedules under real workers: whoever of them has a tick, it makes one event.
#include <gtest/gtest.h>

#include <signal.h>
#include <random>

#include <nlohmann/json.hpp>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

Process worker(const Database& database) {
  return Process({spillway_binary(), "run", "--roles", "worker", "--database-url", database.url(),
                  "--handlers", test_handlers(), "--runners", "1"});
}

// Events of the test handlers that write down which schedule they are of.
void add_schedules(Database& database, int count) {
  const json payload = {
      {"do", {{{"insert", {{"table", "ticked"}, {"data", {{"who", "a schedule"}}}}}}}}};
  database.query(
      "CREATE TABLE ticked (who text);"
      "INSERT INTO spillway.schedules (name, cron, type, payload) SELECT 's' || g, '0 0 29 2 *',"
      " 'Told', " +
      sql_quoted(payload.dump()) + " FROM generate_series(1, " + std::to_string(count) + ") g");
}

// Makes all of them due now, at a time that none was due at before.
void make_due(Database& database) {
  database.query("UPDATE spillway.schedules SET next_at = clock_timestamp()");
}

bool none_is_due(Database& database) {
  return database.number("SELECT count(*) FROM spillway.schedules WHERE next_at <= now()") == 0;
}

TEST(Schedules, tick_once_whichever_worker_is_there) {
  Database database;
  constexpr int schedules = 20, rounds = 10;
  add_schedules(database, schedules);
  Process one = worker(database);
  Process two = worker(database);
  for (int round = 0; round < rounds; ++round) {
    make_due(database);
    ASSERT_TRUE(eventually([&] { return none_is_due(database); })) << one.errors() << two.errors();
  }
  ASSERT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), schedules * rounds);
  EXPECT_EQ(database.number("SELECT count(*) FROM ticked"), schedules * rounds);
  EXPECT_EQ(database.value("SELECT bool_and(n = " + std::to_string(rounds) +
                           ") FROM (SELECT count(DISTINCT context->>'tick') AS n FROM "
                           "spillway.events GROUP BY context->>'schedule') t"),
            "t");
  EXPECT_EQ(database.value("SELECT DISTINCT status FROM spillway.event_status"), "done");
  for (Process* process : {&one, &two}) {
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0) << process->errors();
    EXPECT_EQ(process->errors().find("failed:"), std::string::npos) << process->errors();
  }
}

TEST(Schedules, tick_once_when_workers_are_killed_in_the_middle) {
  Database database;
  constexpr int schedules = 300, rounds = 12;
  add_schedules(database, schedules);
  // Long enough in the middle of it that some are killed there.
  database.query(
      "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END';"
      "CREATE TRIGGER slowly BEFORE INSERT ON spillway.events FOR EACH ROW EXECUTE FUNCTION "
      "slowly()");
  std::mt19937_64 random(printed_seed());
  int in_the_middle = 0;
  for (int round = 0; round < rounds; ++round) {
    Process victim = worker(database);
    make_due(database);
    ASSERT_TRUE(eventually([&] {
      return none_is_due(database) ||
             database.number(
                 "SELECT count(*) FROM pg_stat_activity WHERE query LIKE "
                 "'%run_schedules%' AND backend_xid IS NOT NULL AND pid <> "
                 "pg_backend_pid()") > 0;
    })) << victim.errors();
    // Anywhere in it, or when it has just finished.
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
    // A kill alone leaves its session to finish what it is at: that is a commit like any other.
    if (round % 3 != 0)
      database.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE "
          "'%run_schedules%' AND pid <> pg_backend_pid()");
    victim.signal(SIGKILL);
    victim.wait();
    if (!none_is_due(database)) ++in_the_middle;
    Process heir = worker(database);
    ASSERT_TRUE(eventually([&] { return none_is_due(database); })) << heir.errors();
    heir.signal(SIGTERM);
    EXPECT_EQ(heir.wait(), 0) << heir.errors();
  }
  EXPECT_GT(in_the_middle, 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), schedules * rounds);
  EXPECT_EQ(database.value("SELECT bool_and(n = " + std::to_string(rounds) +
                           ") FROM (SELECT count(DISTINCT context->>'tick') AS n FROM "
                           "spillway.events GROUP BY context->>'schedule') t"),
            "t");
  Process last = worker(database);
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_EQ(database.number("SELECT count(*) FROM ticked"), schedules * rounds);
}

TEST(Schedules, that_become_due_while_nobody_is_there_are_made_up_for) {
  Database database;
  add_schedules(database, 2);
  // Hourly, twenty minutes ago for the last time.
  database.query(
      "UPDATE spillway.schedules SET missed = CASE name WHEN 's1' THEN 'skip' ELSE 'catch-up-one' "
      "END, cron = extract(minute FROM now() - interval '20 minutes') || ' * * * *',"
      " next_at = date_trunc('minute', now()) - interval '320 minutes'");
  Process process = worker(database);
  ASSERT_TRUE(eventually([&] { return none_is_due(database); })) << process.errors();
  EXPECT_EQ(database.value("SELECT string_agg(context->>'schedule', ' ') FROM spillway.events"),
            "s2");
  EXPECT_EQ(database.value(
                "SELECT last_at = date_trunc('minute', now()) - interval '20 minutes' OR last_at"
                " = date_trunc('minute', now()) - interval '21 minutes' FROM "
                "spillway.schedules WHERE name = 's2'"),
            "t");
}

}  // namespace
}  // namespace spillway::test
