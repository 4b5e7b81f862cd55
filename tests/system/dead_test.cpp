// Dead letters with real workers: `spillway dead`, and streams that are held.
#include <gtest/gtest.h>

#include <random>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Finished dead(const Database& database, std::vector<std::string> words) {
  words.insert(words.begin(), {spillway_binary(), "dead"});
  return run(words, {{"DATABASE_URL", database.url()}});
}

// Its handlers insert n into `good`, unless `closed` forbids it; or throw.
class DeadLetters : public testing::Test {
 protected:
  DeadLetters() { database.query("CREATE TABLE good (at serial, n int PRIMARY KEY)"); }

  std::vector<std::string> options(const std::string& dead_stream = "release") {
    return {"--handlers", test_handlers(), "--max-attempts", "2",       "--retry-delay",
            "10ms",       "--dead-stream", dead_stream,      "--roles", "worker,sse"};
  }
  void close(const std::string& check) {
    database.query("ALTER TABLE good ADD CONSTRAINT closed CHECK (" + check + ")");
  }
  void open() { database.query("ALTER TABLE good DROP CONSTRAINT closed"); }

  static std::string row_event(const std::string& type, const std::string& stream,
                               const std::string& n) {
    return "INSERT INTO spillway.events (type, stream, payload) SELECT '" + type + "', " + stream +
           ", jsonb_build_object('do', jsonb_build_array(jsonb_build_object('insert', "
           "jsonb_build_object('table', 'good', 'data', jsonb_build_object('n', n))))) FROM "
           "generate_series(" +
           n + ") n";
  }
  long long dead_count() { return database.number("SELECT count(*) FROM spillway.dead_letters"); }
  std::string rows() {
    return database.value("SELECT coalesce(string_agg(n::text, ' ' ORDER BY at), '') FROM good");
  }

  Database database;
};

TEST_F(DeadLetters, are_listed_shown_retried_and_discarded) {
  close("n NOT IN (2, 4)");
  database.query(row_event("Row", "'s'", "1, 5"));
  database.query(
      "INSERT INTO spillway.events (type, payload) VALUES ('Sick', '{\"do\":[{\"throw\":\"no luck "
      "in "
      "room 12\"}]}'), ('Sick', '{\"do\":[{\"throw\":\"no luck in room 13\"}]}')");
  Worker worker(database.url(), options());
  worker.wait_until_ready();
  ASSERT_TRUE(eventually([&] { return drained(database) && dead_count() == 4; }));

  // list
  const auto list = dead(database, {"list"});
  EXPECT_EQ(list.exit_code, 0);
  EXPECT_EQ(std::count(list.output.begin(), list.output.end(), '\n'), 5) << list.output;
  EXPECT_TRUE(list.output.starts_with("EVENT  TYPE")) << list.output;
  EXPECT_TRUE(contains(list.output, "event 6 (Sick): the handler threw: no luck in room 12\n"));
  std::istringstream lines(dead(database, {"list", "--json", "--type", "Row"}).output);
  std::vector<json> letters;
  for (std::string line; std::getline(lines, line);) letters.push_back(json::parse(line));
  ASSERT_EQ(letters.size(), 2u);
  EXPECT_EQ(letters[0]["event_id"], 4);
  EXPECT_EQ(letters[0]["stream"], "s");
  EXPECT_EQ(letters[0]["attempts"], 2);
  EXPECT_EQ(letters[0]["sqlstate"], "23514");
  const auto some = dead(database, {"list", "--limit", "1", "--error", "NO LUCK"});
  EXPECT_TRUE(contains(some.output, "room 1")) << some.output;
  EXPECT_EQ(some.errors, "1 more; --limit N shows them, --group sums them up\n");
  const auto groups = dead(database, {"list", "--group", "--json", "--type", "Sick"});
  EXPECT_EQ(json::parse(groups.output)["count"], 2) << groups.output;
  EXPECT_EQ(json::parse(groups.output)["error"], "the handler threw: no luck in room N");
  EXPECT_EQ(dead(database, {"list", "--since", "1h"}).output, list.output);
  const auto none = dead(database, {"list", "--until", "1h"});
  EXPECT_EQ(none.output, "");
  EXPECT_EQ(none.errors, "no dead letter is like that\n");
  EXPECT_EQ(dead(database, {"list", "--older-than", "1h"}).output, "");

  // show
  const auto show = dead(database, {"show", "2"});
  EXPECT_EQ(show.exit_code, 0);
  for (const char* part : {"SQLSTATE", "spillway dead retry 2", "spillway dead discard 2",
                           "spillway try --event 2", "\"table\": \"good\""})
    EXPECT_TRUE(contains(show.output, part)) << part << " in\n" << show.output;
  const json all = json::parse(dead(database, {"show", "2", "--json"}).output);
  EXPECT_EQ(all["payload"]["do"][0]["insert"]["data"]["n"], 2);
  EXPECT_EQ(all["stream"], "s");
  EXPECT_FALSE(all["correlation_id"].get<std::string>().empty());
  const auto done = dead(database, {"show", "1"});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_EQ(done.errors, "spillway: event 1 is not dead: it is done\n");

  // retry
  open();
  const auto dry = dead(database, {"retry", "--type", "Row", "--dry-run"});
  EXPECT_EQ(dry.output, "2 events would be retried\n");
  EXPECT_EQ(dead_count(), 4);
  const auto one = dead(database, {"retry", "2", "1", "99"});
  EXPECT_EQ(one.exit_code, 1);
  EXPECT_EQ(one.output, "1 event retried\n");
  EXPECT_EQ(one.errors,
            "spillway: event 1 is not dead: it is done\n"
            "spillway: there is no event 99 in spillway.events\n");
  const auto rest = dead(database, {"retry", "--type", "Row"});
  EXPECT_EQ(rest.exit_code, 0);
  EXPECT_EQ(rest.output, "1 event retried\n");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(rows(), "1 3 5 2 4");

  // discard
  const auto ask = dead(database, {"discard", "--type", "Sick"});
  EXPECT_EQ(ask.exit_code, 2);
  EXPECT_TRUE(contains(ask.errors, "2 events would be given up for good; add --yes")) << ask.errors;
  EXPECT_EQ(dead_count(), 2);
  EXPECT_EQ(dead(database, {"discard", "6"}).output, "1 event discarded\n");
  EXPECT_EQ(dead(database, {"discard", "--all", "--yes"}).output, "1 event discarded\n");
  EXPECT_EQ(dead(database, {"list"}).errors, "there are no dead letters\n");
  EXPECT_EQ(database.value("SELECT string_agg(DISTINCT status, ' ') FROM spillway.event_status"),
            "done");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(DeadLetters, usage_errors_say_what_to_write) {
  const auto error = [&](const std::vector<std::string>& words) {
    const auto result = dead(database, words);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    return result.errors;
  };
  for (const char* verb : {"retry", "discard"}) {
    EXPECT_TRUE(contains(error({verb}), "or take --all"));
    EXPECT_TRUE(contains(error({verb, "1", "--type", "A"}), "one of these only"));
    EXPECT_TRUE(contains(error({verb, "--all", "--error", "x"}), "one of these only"));
    EXPECT_TRUE(contains(error({verb, "--since", "whenever"}),
                         "--since \"whenever\": write a time such as"));
  }
  EXPECT_TRUE(contains(error({"retry", "x"}), "x"));
  EXPECT_TRUE(contains(error({"retry", "--all", "--yes"}), "--yes"));
  EXPECT_TRUE(contains(error({"list", "--older-than", "soon"}), "write a duration"));
  EXPECT_TRUE(contains(error({"list", "--older-than", "1h", "--until", "2h"}), "--until"));
  EXPECT_TRUE(contains(error({"lst"}), "see `spillway dead --help`"));
  EXPECT_FALSE(error({}).empty());
  const auto nowhere =
      run({spillway_binary(), "dead", "list", "--database-url", "postgresql://127.0.0.1:1/none"});
  EXPECT_EQ(nowhere.exit_code, 3) << nowhere.errors;
}

TEST_F(DeadLetters, on_a_terminal_lines_fit_and_discarding_asks) {
  database.query(
      "INSERT INTO spillway.events (type) VALUES ('A'), ('A');"
      "DELETE FROM spillway.queue;"
      "INSERT INTO spillway.dead_letters (event_id, error, attempts)"
      " SELECT id, repeat('long ', 100), 1 FROM spillway.events");
  const auto on_terminal = [&](const std::string& words, const std::string& typed) {
    return run({"sh", "-c",
                "echo " + typed + " | script -qec \"stty cols 70; " + spillway_binary() + " dead " +
                    words + "\" /dev/null"},
               {{"DATABASE_URL", database.url()}});
  };
  std::istringstream lines(on_terminal("list", "").output);
  int letters = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 70u + std::string("…\r").size() - 1) << line;
    if (contains(line, "long")) ++letters;
  }
  EXPECT_EQ(letters, 2);
  const auto no = on_terminal("discard --all", "n");
  EXPECT_TRUE(contains(no.output, "Give up 2 events for good? [y/N]")) << no.output;
  EXPECT_TRUE(contains(no.output, "nothing was discarded")) << no.output;
  EXPECT_EQ(dead_count(), 2);
  const auto yes = on_terminal("discard --all", "y");
  EXPECT_TRUE(contains(yes.output, "2 events discarded")) << yes.output;
  EXPECT_TRUE(contains(yes.output, "[##############################] 2 events")) << yes.output;
  EXPECT_EQ(dead_count(), 0);
}

TEST_F(DeadLetters, by_the_thousand_are_retried_in_steps_while_new_events_come) {
  constexpr int count = 3500;  // more than three steps
  database.query(row_event("Row", "CASE WHEN n % 2 = 0 THEN 's' || n % 50 END",
                           "1, " + std::to_string(count)));
  database.query(
      "DELETE FROM spillway.queue; INSERT INTO spillway.dead_letters (event_id, error, attempts)"
      " SELECT id, 'violates check constraint \"closed\"', 2 FROM spillway.events");
  Worker worker(database.url(), options());
  worker.wait_until_ready();
  const auto all = dead(database, {"retry", "--error", "violates check constraint \"closed\""});
  EXPECT_EQ(all.exit_code, 0) << all.errors;
  EXPECT_EQ(all.output, "3500 events retried\n");
  database.query(row_event("Row", "'s2'", "10001, 10100"));
  EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_EQ(database.number("SELECT count(*) FROM good"), count + 100);
  EXPECT_EQ(dead_count(), 0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(DeadLetters, hold_their_stream_through_kills_and_other_workers_until_retried) {
  close("n <> 2");
  Worker first(database.url(), options("hold"));
  first.wait_until_ready();
  database.query(row_event("Row", "'s'", "1, 4"));
  ASSERT_TRUE(eventually([&] { return dead_count() == 1; }));
  database.query(row_event("Row", "'s'", "5, 6"));
  database.query(row_event("Row", "'t'", "7, 7"));
  const std::string held =
      "held back by event 2 of the same stream, a dead letter: spillway.retry(2) or "
      "spillway.discard(2)";
  const auto all_held = [&] {
    return database.number(
               "SELECT count(*) FROM spillway.event_status WHERE status = 'pending' AND "
               "last_error = '" +
               held + "'") == 4;
  };
  EXPECT_TRUE(eventually(all_held));
  EXPECT_TRUE(eventually([&] { return rows() == "1 7"; })) << rows();
  first.kill();

  // A worker that releases leaves it held, and holds nothing itself.
  Worker second(database.url(), options("release"));
  second.wait_until_ready();
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) VALUES"
      " ('Sick', 'u', '{\"do\":[{\"throw\":\"no\"}]}')");
  database.query(row_event("Row", "'u'", "8, 8"));
  database.query(row_event("Row", "'s'", "9, 9"));
  EXPECT_TRUE(eventually([&] { return rows() == "1 7 8"; })) << rows();
  EXPECT_TRUE(eventually([&] {
    return database.value(
               "SELECT last_error FROM spillway.event_status ORDER BY event_id DESC "
               "LIMIT 1") == held;
  }));
  EXPECT_EQ(rows(), "1 7 8");
  EXPECT_EQ(json::parse(run({spillway_binary(), "status", "--json", "--interval", "0"},
                            {{"DATABASE_URL", database.url()}})
                            .output)["retrying"],
            0);
  const auto shown = dead(database, {"show", "2"});
  EXPECT_TRUE(contains(shown.output, "holds back      5 events of its stream")) << shown.output;

  // Retried while no worker runs.
  second.kill();
  EXPECT_EQ(dead(database, {"retry", "2"}).exit_code, 0);
  open();
  Worker third(database.url(), options("hold"));
  third.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(rows(), "1 7 8 2 3 4 5 6 9");
  EXPECT_EQ(third.stop(), 0);
}

TEST_F(DeadLetters, that_hold_their_stream_let_it_go_when_discarded_while_no_worker_runs) {
  close("n <> 1");
  {
    Worker worker(database.url(), options("hold"));
    worker.wait_until_ready();
    database.query(row_event("Row", "'s'", "1, 3"));
    ASSERT_TRUE(eventually([&] { return dead_count() == 1; }));
    worker.kill();
  }
  EXPECT_EQ(dead(database, {"discard", "--error", "closed", "--yes"}).output,
            "1 event discarded\n");
  EXPECT_EQ(database.value("SELECT string_agg(status, ' ' ORDER BY event_id) FROM "
                           "spillway.event_status"),
            "done pending pending");
  Worker worker(database.url(), options("hold"));
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(rows(), "2 3");
  EXPECT_EQ(worker.stop(), 0);
}

// Workers of both modes are killed while letters are retried over and over.
TEST_F(DeadLetters, survive_kills_while_they_are_retried) {
  std::mt19937_64 random(printed_seed());
  close("n % 5 <> 0");
  constexpr int count = 600;
  database.query(row_event("Row", "'s' || n % 20", "1, " + std::to_string(count)));
  PgConnection client(database.target());
  for (int kill = 0; kill < 8; ++kill) {
    Worker one(database.url(), options("hold"));
    Worker two(database.url(), options(kill % 2 == 0 ? "hold" : "release"));
    one.wait_until_ready();
    two.wait_until_ready();
    const auto settled = [&] {
      return database.number("SELECT count(*) FROM good") + dead_count();
    };
    if (kill == 4) open();
    const long long before = settled();
    for (int i = 0; i < 5; ++i)
      client.exec(
          "SELECT count(spillway.retry(event_id)) FROM spillway.dead_letters WHERE random() < " +
          std::to_string(static_cast<double>(random() % 100) / 100));
    // Something went on, or nothing can.
    static_cast<void>(eventually([&] { return settled() != before; }, 100ms));
    one.kill();
    two.kill();
  }
  Worker last(database.url(), options("hold"));
  last.wait_until_ready();
  EXPECT_TRUE(eventually(
      [&] {
        client.exec("SELECT count(spillway.retry(event_id)) FROM spillway.dead_letters");
        return drained(database) && dead_count() == 0;
      },
      60s));
  // The key forbids doubles, so all of them once.
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(n), max(n)) FROM good"),
            "600 1 600");
  EXPECT_EQ(last.stop(), 0);
}

}  // namespace
}  // namespace spillway::test
