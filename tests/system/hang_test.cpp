// Handlers that hang, crash or eat all memory: their event ends as a dead letter that says so, and
// every other event is done, once.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr int good_count = 200;
constexpr int streams = 7;

const char* tables = "CREATE TABLE good (n int PRIMARY KEY)";

json good_steps(int n) {
  return {{{"insert", {{"table", "good"}, {"data", {{"n", n}}}}}},
          {{"tell", {{"channel", "good"}, {"event_type", "told"}, {"data", n}}}}};
}

struct Poison {
  std::string type = "Poison";
  json payload;
};

Poison ends_by(const std::string& how) {
  return {"Poison", {{"do", {{{"end", how}}}}}};
}

// 200 good events, most of them in streams, and the poison in the middle of the poison's stream.
// One transaction, so that all of it is claimed together. Returns the poison's id.
std::string enqueue(Database& database, const Poison& poison, bool with_priorities = false) {
  std::string values;
  const auto add = [&](const std::string& type, const std::string& stream, const json& payload,
                       int priority) {
    values += (values.empty() ? "(" : ",(") + sql_quoted(type) + "," + stream + "," +
              sql_quoted(payload.dump()) + "," + std::to_string(with_priorities ? priority : 0) +
              ")";
  };
  for (int n = 1; n <= good_count; ++n) {
    add("Good", n % 4 == 0 ? "NULL" : "'s" + std::to_string(n % streams) + "'",
        {{"do", good_steps(n)}, {"n", n}}, n % 5 - 2);
    if (n == good_count / 2) add(poison.type, "'s1'", poison.payload, 9);
  }
  database.query("INSERT INTO spillway.events (type, stream, payload, priority) VALUES " + values);
  return database.value("SELECT id FROM spillway.events WHERE type <> 'Good'");
}

std::vector<std::string> options(std::vector<std::string> more = {}) {
  std::vector<std::string> all{"--max-attempts", "2", "--retry-delay", "20ms"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<std::string> with_library(std::vector<std::string> more = {}) {
  more.insert(more.end(), {"--handlers", test_handlers()});
  return options(std::move(more));
}

// Every good event once, in its stream's order; the poison dead with `error` in its words.
void expect_poison_alone_is_dead(Database& database, const std::string& poison,
                                 const std::string& error) {
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(n), max(n)) FROM good"),
            "200 1 200");
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(position), max(position),"
                           " count(DISTINCT event_id)) FROM spillway.broadcasts"),
            "200 1 200 200");
  EXPECT_EQ(database.number(
                "SELECT count(*) FROM (SELECT b.event_id, lag(b.event_id) OVER"
                " (PARTITION BY e.stream ORDER BY b.position) AS before FROM spillway.broadcasts b"
                " JOIN spillway.events e ON e.id = b.event_id WHERE e.stream IS NOT NULL) o"
                " WHERE before > event_id"),
            0);
  EXPECT_EQ(database.value("SELECT string_agg(event_id::text, ' ') FROM spillway.dead_letters"),
            poison);
  EXPECT_EQ(database.number("SELECT max(attempts) FROM spillway.dead_letters"), 2);
  const std::string said = database.value("SELECT error FROM spillway.dead_letters");
  EXPECT_NE(said.find("event " + poison + " (Poison): "), std::string::npos) << said;
  EXPECT_NE(said.find(error), std::string::npos) << said;
}

bool no_suspicion(Database& database) {
  return database.value(
             "SELECT NOT EXISTS (SELECT FROM spillway.suspicion) AND NOT EXISTS (SELECT FROM "
             "spillway.suspects)") == "t";
}

constexpr const char* memory = "384M";
constexpr const char* while_handled = "the process ended while this event was being handled";

void expect_ending_is_survived(const std::string& how, const std::string& error,
                               std::vector<std::string> more = {}) {
  Database database;
  database.query(tables);
  const std::string poison = enqueue(database, ends_by(how));
  more.push_back("--supervise");
  Worker worker(database.url(), with_library(std::move(more)));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s)) << worker.process().errors();
  expect_poison_alone_is_dead(database, poison, error);
  EXPECT_TRUE(eventually([&] { return no_suspicion(database); }));
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
}

TEST(Hangs, an_endless_loop) {
  expect_ending_is_survived("loop", "the handler ran longer than --handler-timeout (300 ms)",
                            {"--handler-timeout", "300ms"});
}
TEST(Hangs, a_segmentation_fault) {
  expect_ending_is_survived("segfault", while_handled);
}
TEST(Hangs, an_abort) {
  expect_ending_is_survived("abort", while_handled);
}
TEST(Hangs, a_recursion_without_end) {
  expect_ending_is_survived("recurse", while_handled);
}
TEST(Hangs, an_exit) {
  expect_ending_is_survived("exit", while_handled);
}
TEST(Hangs, an_endless_allocation) {
  // std::bad_alloc, which the handler's caller catches; or, where it strikes elsewhere, an end.
  expect_ending_is_survived("allocate", "Poison): the ", {"--memory-limit", memory});
}

// jq programs, the good ones among them: what the payload says goes out as it is.
class Programs {
 public:
  explicit Programs(const std::string& poison) : folder_(scratch_folder() / ("jq" + next())) {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / "Good.jq") << R"([{Insert: {table: "good", data: {n: .payload.n}}},
      {SSEBroadcast: {channel: "good", event_type: "told", data: .payload.n}}])";
    std::ofstream(folder_ / "Poison.jq") << poison;
  }
  [[nodiscard]] std::string path() const { return folder_.string(); }

 private:
  static std::string next() {
    static int number = 0;
    return std::to_string(++number);
  }
  std::filesystem::path folder_;
};

void expect_program_is_survived(const std::string& program, const std::string& error) {
  Database database;
  database.query(tables);
  const Programs programs(program);
  const std::string poison = enqueue(database, {"Poison", json::object()});
  Worker worker(database.url(), options({"--supervise", "--handlers", programs.path(),
                                         "--handler-timeout", "1000ms", "--memory-limit", memory}));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s)) << worker.process().errors();
  expect_poison_alone_is_dead(database, poison, error);
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
}

TEST(Hangs, a_jq_program_that_never_ends) {
  expect_program_is_survived("def f: f; f", "the handler ran longer than --handler-timeout (1 s)");
}

TEST(Hangs, a_jq_program_that_counts_for_ever) {
  expect_program_is_survived("[limit(1; range(infinite) | select(. < 0))]",
                             "the handler ran longer than --handler-timeout (1 s)");
}

TEST(Hangs, a_jq_program_without_a_bottom) {
  expect_program_is_survived("def f: [f]; f", "Poison): the ");
}

TEST(Hangs, two_workers_find_the_event_together) {
  Database database;
  database.query(tables);
  const std::string poison = enqueue(database, ends_by("segfault"));
  Worker one(database.url(), with_library({"--supervise", "--runners", "2"}));
  Worker two(database.url(), with_library({"--supervise", "--runners", "2"}));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s))
      << one.process().errors() << two.process().errors();
  expect_poison_alone_is_dead(database, poison, while_handled);
  EXPECT_EQ(one.stop(), 0);
  EXPECT_EQ(two.stop(), 0);
}

TEST(Hangs, two_poisons_of_two_streams_are_both_found) {
  Database database;
  database.query(tables);
  const std::string poison = enqueue(database, ends_by("abort"));
  database.query("INSERT INTO spillway.events (type, stream, payload) VALUES ('Poison', 's2', " +
                 sql_quoted(ends_by("segfault").payload.dump()) + ")");
  Worker worker(database.url(), with_library({"--supervise"}));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s)) << worker.process().errors();
  EXPECT_EQ(database.number("SELECT count(*) FROM good"), good_count);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters d JOIN spillway.events e"
                            " ON e.id = d.event_id WHERE e.type = 'Poison'"),
            2);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 2);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Hangs, an_event_with_a_priority_is_found_too) {
  Database database;
  database.query(tables);
  const std::string poison = enqueue(database, ends_by("segfault"), true);
  Worker worker(database.url(), with_library({"--supervise"}));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s)) << worker.process().errors();
  expect_poison_alone_is_dead(database, poison, while_handled);
  EXPECT_TRUE(eventually([&] { return no_suspicion(database); }));
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
}

TEST(Hangs, a_scheduled_event_is_found_too) {
  Database database;
  database.query(tables);
  database.query(
      "INSERT INTO spillway.events (type, execute_at, payload) VALUES ('Poison', now() +"
      " interval '200 milliseconds', " +
      sql_quoted(ends_by("segfault").payload.dump()) + ")");
  Worker worker(database.url(), with_library({"--supervise"}));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s)) << worker.process().errors();
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 1);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Hangs, without_a_supervisor_whoever_starts_it_again_gets_to_the_same_end) {
  Database database;
  database.query(tables);
  const std::string poison = enqueue(database, ends_by("segfault"));
  int starts = 0;
  for (; starts < 20 && !drained(database); ++starts) {
    Worker worker(database.url(), with_library());
    // It ends, or it is done.
    ASSERT_TRUE(eventually([&] { return !worker.process().running() || drained(database); }, 30s));
    if (!worker.process().running()) continue;
    EXPECT_EQ(worker.stop(), 0);
  }
  EXPECT_TRUE(drained(database));
  EXPECT_GE(starts, 3);  // with others, among fewer, alone, alone: or a little less by chance
  expect_poison_alone_is_dead(database, poison, while_handled);
}

TEST(Hangs, a_clean_stop_leaves_no_suspicion) {
  Database database;
  {
    Worker worker(database.url(), with_library());
    worker.wait_until_ready();
    ASSERT_TRUE(eventually(
        [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 1; }));
    EXPECT_EQ(worker.stop(), 0);
  }
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.workers"), 0);
  EXPECT_TRUE(no_suspicion(database));
}

TEST(Hangs, a_killed_worker_leaves_a_suspicion_that_ends_by_itself) {
  Database database;
  database.query(tables);
  Worker killed(database.url(), with_library());
  killed.wait_until_ready();
  ASSERT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 1; }));
  killed.process().signal(SIGSTOP);
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) SELECT 'Good', 's' || n % 50,"
      " jsonb_build_object('do', jsonb_build_array(jsonb_build_object('insert',"
      "  jsonb_build_object('table', 'good', 'data', jsonb_build_object('n', n)))))"
      " FROM generate_series(1, 20000) n");
  killed.kill();
  Worker worker(database.url(), with_library());
  worker.wait_until_ready();
  ASSERT_TRUE(eventually([&] {
    return worker.process().errors().find("ended without stopping in order") != std::string::npos;
  }));
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_TRUE(eventually([&] { return no_suspicion(database); }));
  EXPECT_EQ(database.number("SELECT count(*) FROM good"), 20'000);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Hangs, the_handler_timeout_is_said_in_the_log_with_the_event_and_exits_with_1) {
  Database database;
  const std::string poison =
      database.value("INSERT INTO spillway.events (type, payload) VALUES ('Poison', " +
                     sql_quoted(ends_by("loop").payload.dump()) + ") RETURNING id");
  Worker worker(database.url(), with_library({"--handler-timeout", "300ms"}));
  EXPECT_EQ(worker.process().wait(30s), 1);
  EXPECT_NE(
      worker.process().errors().find(
          "event " + poison + " (Poison): the handler ran longer than --handler-timeout (300 ms)"),
      std::string::npos)
      << worker.process().errors();
  EXPECT_EQ(
      database.value("SELECT concat_ws(' ', event_id, crashes, error) FROM spillway.suspects"),
      poison + " 1 the handler ran longer than --handler-timeout (300 ms)");
}

// ---- --supervise

int worker_pid(Database& database) {
  return static_cast<int>(
      database.number("SELECT coalesce(max(pid), 0) FROM spillway.live_workers"));
}

TEST(Supervise, a_killed_worker_is_replaced_on_the_same_port_and_says_why) {
  Database database;
  Worker worker(database.url(), with_library({"--supervise"}));
  worker.wait_until_ready();
  const int port = worker.port();
  int first = 0;
  ASSERT_TRUE(eventually([&] { return (first = worker_pid(database)) != 0; }));
  ASSERT_NE(first, worker.process().pid());
  kill(first, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const int now = worker_pid(database);
    return now != 0 && now != first;
  })) << worker.process().errors();
  EXPECT_NE(worker.process().errors().find("was ended by SIGKILL"), std::string::npos);
  Subscriber subscriber("/sse?channel=a", [&] { return port; });
  EXPECT_TRUE(eventually([&] { return subscriber.connected(); }));
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
  EXPECT_TRUE(eventually([&] { return worker_pid(database) == 0; }));
}

TEST(Supervise, a_killed_supervisor_takes_its_worker_along) {
  Database database;
  Worker worker(database.url(), with_library({"--supervise"}));
  worker.wait_until_ready();
  ASSERT_TRUE(eventually([&] { return worker_pid(database) != 0; }));
  const int pid = worker_pid(database);
  worker.kill();
  EXPECT_TRUE(eventually([&] { return kill(pid, 0) != 0; }));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.workers"), 0);  // in order
}

TEST(Supervise, what_a_restart_does_not_mend_is_not_tried_again) {
  Database database;
  Worker wrong_handlers(database.url(), {"--supervise", "--handlers", "/does/not/exist"});
  EXPECT_EQ(wrong_handlers.process().wait(), 2);
  Worker no_database("postgresql://127.0.0.1:1/none",
                     {"--supervise", "--connect-timeout", "200ms"});
  EXPECT_EQ(no_database.process().wait(), 3);
  Database empty(false);
  Worker no_schema(empty.url(), {"--supervise"});
  EXPECT_EQ(no_schema.process().wait(), 4);
}

TEST(Supervise, a_stop_during_a_hanging_handler_takes_the_shutdown_timeout_at_most) {
  Database database;
  database.query("INSERT INTO spillway.events (type, payload) VALUES ('Poison', " +
                 sql_quoted(ends_by("loop").payload.dump()) + ")");
  Worker worker(database.url(), with_library({"--supervise", "--shutdown-timeout", "300ms"}));
  // Its handler runs: the batch has its lanes and asks the database for nothing.
  ASSERT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_stat_activity WHERE datname ="
               " current_database() AND state = 'idle in transaction' AND"
               " clock_timestamp() - state_change > interval '100 ms'") > 0;
  }));
  EXPECT_EQ(worker.stop(), 1);
  EXPECT_TRUE(eventually([&] { return worker_pid(database) == 0; }));
}

TEST(Supervise, a_reload_reaches_the_worker) {
  Database database;
  Worker worker(database.url(), with_library({"--supervise"}));
  worker.wait_until_ready();
  worker.process().signal(SIGHUP);
  EXPECT_TRUE(eventually([&] {
    return worker.process().errors().find("SIGHUP: handlers reloaded") != std::string::npos;
  }));
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace spillway::test
