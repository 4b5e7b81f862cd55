// The number of lanes is changed while everything runs: nothing lost, nothing twice, order kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "processor/queue_store.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

// `effects` is what the handlers write, in the order in which events are handled; a second row of
// one event would be refused. While the gate is closed nothing gets into `gated`.
constexpr const char* tables =
    "CREATE TABLE effects (n bigserial, stream text, k int, PRIMARY KEY (stream, k));"
    "CREATE TABLE gated (stream text, k int);"
    "CREATE TABLE gate (closed bool); INSERT INTO gate VALUES (false);"
    "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    "  IF (SELECT closed FROM gate) THEN RAISE EXCEPTION 'the gate is closed'; END IF;"
    "  RETURN NULL; END $$;"
    "CREATE TRIGGER guard AFTER INSERT ON gated FOR EACH STATEMENT EXECUTE FUNCTION guard()";

Finished migrate(const Database& database, const std::vector<std::string>& arguments) {
  std::vector<std::string> command{spillway_binary(), "migrate", "--database-url", database.url()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run(command);
}

class Writer {
 public:
  Writer(const PgTarget& target, int number, std::uint64_t seed)
      : connection_(target), number_(number), random_(seed) {}

  void run(const std::atomic<bool>& stop) {
    while (!stop) {
      const int kind = at_most(9);
      connection_.exec("BEGIN");
      insert(1 + at_most(kind == 0 ? 60 : 2));
      if (kind < 3) {
        connection_.exec("SELECT pg_sleep(" + std::to_string(at_most(150) / 1e3) + ")");
        insert(1);
      }
      const bool keep = at_most(7) != 0;
      connection_.exec(keep ? "COMMIT" : "ROLLBACK");
      if (keep) committed_ += pending_;
      pending_ = 0;
    }
  }
  [[nodiscard]] long long committed() const { return committed_; }

 private:
  int at_most(int most) { return std::uniform_int_distribution<int>(0, most)(random_); }

  void insert(int rows) {
    std::string values;
    for (int i = 0; i < rows; ++i, ++pending_) {
      // Half in streams, of which one writer is the only one, so that they have an order.
      const bool ordered = at_most(1) == 0;
      const std::string stream =
          "w" + std::to_string(number_) + ":" + (ordered ? std::to_string(at_most(9)) : "loose");
      const json data = {{"stream", stream}, {"k", ++last_}};
      json steps = json::array();
      if (at_most(19) == 0) steps.push_back({{"insert", {{"table", "gated"}, {"data", data}}}});
      steps.push_back({{"insert", {{"table", "effects"}, {"data", data}}}});
      const int kind = at_most(9);
      values += (i == 0 ? "" : ",") + ("('Work'," + (ordered ? sql_quoted(stream) : "NULL")) + "," +
                (kind > 1  ? "0"
                 : ordered ? "2"
                           : std::to_string(kind * 2 - 1)) +
                (!ordered && kind == 2 ? ",now() + interval '700 ms'," : ",now(),") +
                sql_quoted(json{{"do", steps}}.dump()) + ")";
    }
    connection_.exec(
        "INSERT INTO spillway.events (type, stream, priority, execute_at, payload) VALUES " +
        values);
  }

  PgConnection connection_;
  const int number_;
  std::mt19937_64 random_;
  int last_ = 0;
  long long pending_ = 0;
  long long committed_ = 0;
};

TEST(Lanes, change_while_writers_insert_and_workers_run) {
  const std::uint64_t seed = printed_seed();
  Database database;
  database.query(tables);
  const std::vector<std::string> options{"--handlers",     test_handlers(), "--runners", "2",
                                         "--max-attempts", "1000",          "--batch",   "50",
                                         "--retry-delay",  "20ms"};
  auto one = std::make_unique<Worker>(database.url(), options);
  Worker two(database.url(), options);
  one->wait_until_ready();
  two.wait_until_ready();

  std::atomic<bool> stop{false};
  std::vector<std::unique_ptr<Writer>> writers;
  std::map<std::string, long long> queued;  // at the changes
  {
    struct Stop {
      std::atomic<bool>& flag;
      ~Stop() { flag = true; }
    };
    std::vector<std::jthread> threads;
    const Stop stop_writers{stop};
    for (int i = 0; i < 4; ++i) {
      writers.push_back(
          std::make_unique<Writer>(database.target(), i, seed + static_cast<std::uint64_t>(i)));
      threads.emplace_back([&, i] { writers[static_cast<std::size_t>(i)]->run(stop); });
    }
    const auto handled = [&] { return database.number("SELECT count(*) FROM effects"); };
    for (const int lanes : {16, 1, 8, 64, 3, 8}) {
      const long long before = handled();
      ASSERT_TRUE(eventually([&] { return handled() > before + 300; }, 60s));
      database.query("UPDATE gate SET closed = true");
      ASSERT_TRUE(eventually(
          [&] { return database.number("SELECT count(*) FROM spillway.waiting") > 20; }, 60s));
      for (const char* table : {"queue", "ranked", "waiting", "scheduled"})
        queued[table] += database.number(std::string("SELECT count(*) FROM spillway.") + table);
      if (lanes == 1 || lanes == 64) one->kill();
      const Finished changed = migrate(database, {"--lanes", std::to_string(lanes)});
      ASSERT_EQ(changed.exit_code, 0) << changed.errors;
      EXPECT_NE(changed.output.find("lanes " + std::to_string(lanes) + "\n"), std::string::npos)
          << changed.output;
      database.query("UPDATE gate SET closed = false");
      if (lanes == 16) {
        // Who runs already takes the new lanes too.
        EXPECT_TRUE(eventually([&] {
          return database.number(
                     "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND"
                     " classid = " +
                     std::to_string(lane_lock_class) +
                     " AND objid >= 8 AND database = (SELECT oid FROM pg_database"
                     "  WHERE datname = current_database())") > 0;
        }));
      }
      if (lanes == 1 || lanes == 64) {
        one = std::make_unique<Worker>(database.url(), options);
        one->wait_until_ready();
      }
    }
  }
  long long committed = 0;
  for (const auto& writer : writers) committed += writer->committed();
  EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0)
      << database.value("SELECT error FROM spillway.dead_letters LIMIT 1");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), committed);
  EXPECT_EQ(database.number("SELECT count(*) FROM effects"), committed);
  EXPECT_EQ(database.value("SELECT stream || ' ' || k FROM (SELECT stream, k, lag(k) OVER"
                           " (PARTITION BY stream ORDER BY n) AS before FROM effects) o"
                           " WHERE k < before AND stream NOT LIKE '%loose' LIMIT 1"),
            "")
      << "was overtaken";
  EXPECT_GT(database.number("SELECT count(*) FROM effects WHERE stream NOT LIKE '%loose'"), 500);
  for (const auto& [table, events] : queued) EXPECT_GT(events, 0) << table;
  std::cout << "[  lanes   ] " << committed << " events; queued at the changes: " << queued["queue"]
            << ", with a priority " << queued["ranked"] << ", waiting " << queued["waiting"]
            << ", scheduled " << queued["scheduled"] << std::endl;
  EXPECT_EQ(one->stop(), 0);
  EXPECT_EQ(two.stop(), 0);
}

// Three of four runners never have it.
TEST(Lanes, one_is_enough_for_several_workers) {
  Database database;
  load_example(database);
  ASSERT_EQ(migrate(database, {"--lanes", "1"}).exit_code, 0);
  Worker one(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  Worker two(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  one.wait_until_ready();
  two.wait_until_ready();
  for (int round = 1; round <= 100; ++round) {
    database.query(
        "INSERT INTO spillway.events (type, payload) SELECT 'CommentAdded',"
        " jsonb_build_object('comment_id', '" +
        std::to_string(round) +
        "-' || n, 'item_id', n::text, 'text', 'hi') FROM generate_series(1, 20) n");
    ASSERT_TRUE(eventually(
        [&] { return database.number("SELECT count(*) FROM item_comments") == 20 * round; }));
  }
  EXPECT_EQ(one.stop(), 0);
  EXPECT_EQ(two.stop(), 0);
}

TEST(Lanes, outlive_the_server_and_the_next_migrate) {
  Database database;
  load_example(database);
  ASSERT_EQ(migrate(database, {"--lanes", "3"}).exit_code, 0);
  server().restart("immediate");
  const Finished plain = insist([&] { return migrate(database, {}); });
  EXPECT_EQ(plain.exit_code, 0) << plain.errors;
  EXPECT_EQ(plain.output.find("lanes"), std::string::npos) << plain.output;
  Worker worker(database.url(), {"--handlers", comments_library()});
  worker.wait_until_ready();
  const auto insert = [&](const std::string& key) {
    insist([&] {
      database.query(
          "INSERT INTO spillway.events (type, stream, payload) SELECT 'CommentAdded', n::text,"
          " jsonb_build_object('comment_id', '" +
          key + "' || n, 'item_id', n::text, 'text', 'hi') FROM generate_series(1, 50) n");
    });
  };
  insert("a");
  ASSERT_TRUE(
      eventually([&] { return database.number("SELECT count(*) FROM item_comments") == 50; }, 60s));
  server().restart("fast");
  EXPECT_EQ(insist([&] { return database.number("SELECT spillway.lane_count()"); }), 3);
  EXPECT_EQ(migrate(database, {"--lanes", "5"}).exit_code, 0);
  insert("b");
  EXPECT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM item_comments") == 100; }, 60s));
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Lanes, a_number_that_cannot_be_is_refused_and_what_can_be_is_said) {
  Database database;
  for (const char* number : {"0", "65", "-1", "abc", "8.5", ""}) {
    const Finished refused = migrate(database, {"--lanes", number});
    EXPECT_EQ(refused.exit_code, 2) << number;
    EXPECT_NE(refused.errors.find("--lanes"), std::string::npos) << refused.errors;
    EXPECT_NE(refused.errors.find("a number from 1 to 64"), std::string::npos) << refused.errors;
  }
  EXPECT_EQ(migrate(database, {"--lanes", "4", "--status"}).exit_code, 2);
  EXPECT_EQ(database.number("SELECT spillway.lane_count()"), 8);

  EXPECT_NE(migrate(database, {"--lanes", "64"}).output.find("lanes 64\n"), std::string::npos);
  EXPECT_NE(migrate(database, {"--lanes", "64"}).output.find("lanes 64, nothing to do\n"),
            std::string::npos);
  const Finished status = run(
      {spillway_binary(), "status", "--json", "--interval", "0", "--database-url", database.url()});
  EXPECT_EQ(json::parse(status.output).at("lanes"), 64) << status.output;
}

}  // namespace
}  // namespace spillway::test
