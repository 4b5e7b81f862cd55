// `spillway replay`: a table lost and rebuilt from the log, while live work goes on.
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<std::string> replay_command(const Database& database, const std::string& handlers,
                                        std::vector<std::string> words) {
  std::vector<std::string> command{spillway_binary(), "replay", "--database-url", database.url()};
  if (!handlers.empty()) command.insert(command.end(), {"--handlers", handlers});
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

Finished replay(const Database& database, const std::string& handlers,
                std::vector<std::string> words) {
  return run(replay_command(database, handlers, std::move(words)));
}

// Every byte of every row.
std::string checksum(Database& database, const std::string& table) {
  return database.value(
      "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' ORDER"
      " BY t::text COLLATE \"C\")), '-') FROM " +
      table + " t");
}

void insert_comments(Database& database, int from, int to) {
  database.query(
      "INSERT INTO spillway.events (type, stream, payload, context) SELECT 'CommentAdded',"
      " 'item:' || g % 50, jsonb_build_object('comment_id', 'c' || g, 'item_id', (g % 50)::text,"
      " 'author_name', 'Ann', 'text', 'comment ' || g, 'timestamp', '2026-01-31T12:00:00Z'),"
      " '{\"item_owner_id\":\"1\"}' FROM generate_series(" +
      std::to_string(from) + ", " + std::to_string(to) + ") g");
}

// One row per step of an event's payload, into a table without a key: what is applied twice shows.
void insert_rows(Database& database, int count) {
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) SELECT 'Row', 's' || g % 20,"
      " jsonb_build_object('do', jsonb_build_array(jsonb_build_object('insert',"
      " jsonb_build_object('table', 'rows', 'data', jsonb_build_object('v', g)))))"
      " FROM generate_series(1, " +
      std::to_string(count) + ") g");
}

void all_done(Database& database) {
  database.query("DELETE FROM spillway.queue");
}

TEST(Replay, rebuilds_a_table_of_20000_events_to_the_byte_while_live_work_goes_on) {
  Database database;
  load_example(database);
  Worker worker(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  worker.wait_until_ready();
  insert_comments(database, 1, 20000);
  ASSERT_TRUE(eventually([&] { return drained(database); }, 120s));
  ASSERT_EQ(database.number("SELECT count(*) FROM item_comments"), 20000);
  const std::string before = checksum(database, "item_comments");
  const auto broadcasts = database.number("SELECT last FROM spillway.stream_head");

  // Live work from now to the end, so that the beginning of the replay falls in the middle of it.
  std::atomic<bool> enough{false};
  std::atomic<int> inserted{20000};
  std::thread writer([&] {
    Database& shared = database;
    PgConnection connection(shared.target());
    while (!enough) {
      const int n = ++inserted;
      connection.exec(
          "INSERT INTO spillway.events (type, stream, payload) VALUES ('CommentAdded', 'item:" +
          std::to_string(n % 50) + "', '{\"comment_id\":\"c" + std::to_string(n) +
          "\",\"item_id\":\"1\",\"author_name\":\"Bob\",\"text\":\"live\","
          "\"timestamp\":\"2026-01-31T12:00:00Z\"}')");
    }
  });
  EXPECT_TRUE(eventually([&] { return inserted > 20050; }));
  Process process(replay_command(database, comments_library(),
                                 {"--from", "1", "--only", "Insert", "--truncate", "item_comments",
                                  "--name", "rebuild", "--rate", "8000"}));
  EXPECT_TRUE(eventually(
      [&] { return database.value("SELECT next_id > first_id FROM spillway.replays") == "t"; }));
  // A live event comes through although the replay is not finished.
  const std::string live = database.value(
      "INSERT INTO spillway.events (type, payload) VALUES ('CommentAdded', '{\"comment_id\":"
      "\"through\",\"item_id\":\"1\",\"author_name\":\"Bob\",\"text\":\"live\",\"timestamp\":"
      "\"2026-01-31T12:00:00Z\"}') RETURNING id");
  EXPECT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM item_comments WHERE comment_id = 'through'") == 1;
  }));
  EXPECT_EQ(database.value("SELECT finished_at IS NULL FROM spillway.replays"), "t");
  EXPECT_EQ(process.wait(120s), 0) << process.errors();
  enough = true;
  writer.join();
  EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);

  // What was there is there again, to the byte, and so is all that came since: once, by its key.
  database.query("CREATE TABLE old AS SELECT * FROM item_comments WHERE text <> 'live'");
  EXPECT_EQ(checksum(database, "old"), before);
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), inserted + 1);
  // 2 broadcasts for each event with an owner, 1 for the others, none from the replay.
  EXPECT_EQ(database.number("SELECT last FROM spillway.stream_head"),
            broadcasts + (inserted - 20000) + 1);
  EXPECT_TRUE(contains(process.output(), "rebuild: events 1 to ")) << process.output();
  EXPECT_TRUE(contains(process.output(), "\n  Insert ")) << process.output();
  EXPECT_TRUE(contains(process.output(), " (not applied: not asked for)\n")) << process.output();
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Replay, killed_at_any_moment_goes_on_and_applies_each_event_once) {
  Database database;
  database.query("CREATE TABLE rows (v int)");
  Worker worker(database.url(), {"--handlers", test_handlers()});
  worker.wait_until_ready();
  insert_rows(database, 20000);
  ASSERT_TRUE(eventually([&] { return drained(database); }, 120s));
  const std::string before = checksum(database, "rows");
  int killed = 0;
  std::optional<int> code;
  long long reached = 0;
  for (int attempt = 0; attempt < 50 && code != 0; ++attempt) {
    // The same command every time.
    Process process(
        replay_command(database, test_handlers(),
                       {"--from", "1", "--truncate", "rows", "--name", "again", "--batch", "200"}));
    const auto at = [&] {
      const std::string next = database.value("SELECT next_id FROM spillway.replays");
      return next.empty() ? 0 : std::stoll(next);
    };
    EXPECT_TRUE(eventually([&] { return at() >= reached + 2500 || !process.running(); }));
    if (process.running()) {
      process.signal(SIGKILL);
      ++killed;
    }
    code = process.wait(60s);
    EXPECT_TRUE(code == 0 || code == 128 + SIGKILL) << process.errors();
    reached = at();
  }
  EXPECT_EQ(code, 0);
  EXPECT_GE(killed, 3);
  EXPECT_EQ(checksum(database, "rows"), before);
  EXPECT_EQ(database.number("SELECT events FROM spillway.replays"), 20000);

  // Finished is finished, whoever calls again.
  const auto again =
      replay(database, test_handlers(),
             {"--from", "1", "--truncate", "rows", "--name", "again", "--batch", "200"});
  EXPECT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_TRUE(contains(again.errors, "was finished at")) << again.errors;
  EXPECT_EQ(checksum(database, "rows"), before);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Replay, a_lost_connection_is_made_anew) {
  Database database;
  database.query("CREATE TABLE rows (v int)");
  insert_rows(database, 20000);
  all_done(database);
  Process process(replay_command(database, test_handlers(),
                                 {"--from", "1", "--batch", "100", "--rate", "20000"}));
  long long reached = 0;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(eventually([&] {
      const std::string next = database.value("SELECT next_id FROM spillway.replays");
      return !next.empty() && std::stoll(next) > reached + 500;
    }));
    reached = database.number("SELECT next_id FROM spillway.replays");
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
        " current_database() AND application_name = 'spillway-replay'");
  }
  EXPECT_EQ(process.wait(60s), 0) << process.errors();
  EXPECT_TRUE(contains(process.errors(), "the database is away, waiting for it"))
      << process.errors();
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || count(DISTINCT v) FROM rows"), "20000 20000");
}

TEST(Replay, ends_at_a_signal_behind_the_step_in_hand_and_goes_on) {
  Database database;
  database.query("CREATE TABLE rows (v int)");
  insert_rows(database, 5000);
  all_done(database);
  for (const int number : {SIGINT, SIGTERM}) {
    Process process(replay_command(
        database, test_handlers(),
        number == SIGINT
            ? std::vector<std::string>{"--from", "1", "--name", "a b", "--batch", "50", "--rate",
                                       "500"}
            : std::vector<std::string>{"--resume", "a b", "--batch", "50", "--rate", "500"}));
    const long long before =
        number == SIGINT ? 0 : database.number("SELECT events FROM spillway.replays");
    ASSERT_TRUE(eventually([&] {
      const std::string events = database.value("SELECT events FROM spillway.replays");
      return !events.empty() && std::stoll(events) > before;
    }));

    // While it runs, a second one is told who has it.
    const auto second = replay(database, test_handlers(), {"--resume", "a b"});
    EXPECT_EQ(second.exit_code, 1);
    EXPECT_TRUE(contains(second.errors, "replay \"a b\" is being run by process " +
                                            std::to_string(process.pid()) + " on host "))
        << second.errors;
    const auto list = replay(database, "", {"--list", "--json"});
    EXPECT_EQ(json::parse(list.output).at(0).at("state"), "running") << list.output;

    process.signal(number);
    EXPECT_EQ(process.wait(), 130) << process.errors();
    EXPECT_TRUE(
        contains(process.errors(),
                 "go on with: spillway replay --resume \"a b\" --handlers " + test_handlers()))
        << process.errors();
    EXPECT_EQ(database.value("SELECT (SELECT count(*) FROM rows) = events AND events < 5000"
                             " AND finished_at IS NULL FROM spillway.replays"),
              "t");
  }
  EXPECT_TRUE(contains(replay(database, "", {"--list"}).output, "a b  interrupted  "));
  const auto rest = replay(database, test_handlers(), {"--resume", "a b"});
  EXPECT_EQ(rest.exit_code, 0) << rest.errors;
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || count(DISTINCT v) FROM rows"), "5000 5000");
  EXPECT_EQ(json::parse(replay(database, "", {"--list", "--json"}).output).at(0).at("state"),
            "finished");
}

TEST(Replay, names_the_event_that_stops_it_and_how_to_go_on) {
  Database database;
  database.query("CREATE TABLE rows (v int)");
  insert_rows(database, 10);
  database.query(
      "INSERT INTO spillway.events (type, payload) VALUES"
      " ('Bad', '{\"do\":[{\"throw\":\"no luck\"}]}')");
  insert_rows(database, 10);
  all_done(database);
  const auto stopped = replay(database, test_handlers(), {"--from", "1"});
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_TRUE(contains(stopped.errors, "event 11 (Bad): the handler threw: no luck"))
      << stopped.errors;
  EXPECT_TRUE(contains(stopped.errors, "go on with: spillway replay --resume replay-1"))
      << stopped.errors;
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 10);
  EXPECT_TRUE(contains(replay(database, "", {"--list"}).output, "replay-1  stopped  "));

  const auto skipped =
      replay(database, test_handlers(), {"--resume", "replay-1", "--on-error", "skip"});
  EXPECT_EQ(skipped.exit_code, 0) << skipped.errors;
  EXPECT_EQ(skipped.output,
            "replay-1: events 1 to 21: 20 replayed, 1 failed\n"
            "  Insert 20\n"
            "  failed: event 11 (Bad): the handler threw: no luck\n");
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 20);

  const auto dry = replay(database, test_handlers(), {"--from", "1", "--dry-run"});
  EXPECT_EQ(dry.exit_code, 1);
  EXPECT_TRUE(contains(dry.output, "20 handled in a dry run, 1 failed")) << dry.output;
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 20);
}

TEST(Replay, broadcasts_reach_subscribers_when_asked_for) {
  Database database;
  Worker worker(database.url(), {"--handlers", test_handlers()});
  worker.wait_until_ready();
  SseClient client(worker.port(), "/sse/Talk/a");
  ASSERT_TRUE(client.next());
  database.query(
      "INSERT INTO spillway.events (type, payload) VALUES ('Told', " +
      sql_quoted(R"({"do":[{"tell":{"channel":"Talk:a","event_type":"said","data":1}}]})") + ")");
  const auto live = client.next();
  ASSERT_TRUE(live);
  ASSERT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(replay(database, test_handlers(), {"--from", "1"}).exit_code, 0);
  EXPECT_EQ(
      replay(database, test_handlers(), {"--from", "1", "--include", "SSEBroadcast"}).exit_code, 0);
  const auto again = client.next();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->data, live->data);
  EXPECT_EQ(again->position(), live->position() + 1);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Replay, refuses_what_cannot_be_meant) {
  Database database;
  database.query("CREATE TABLE rows (v int)");
  insert_rows(database, 1);
  all_done(database);
  struct Case {
    std::vector<std::string> words;
    std::string says;
  };
  const std::string all_kinds =
      "Insert, Upsert, Update, Delete, SSEBroadcast, ScheduleEvent, TriggerWebhook, KVSet, "
      "KVDelete, Log";
  for (const Case& wrong : std::vector<Case>{
           {{}, "say where to begin, with --from ID"},
           {{"--from", "1", "--only", "Insert,Inserts"},
            "--only Inserts: there is no such kind of "
            "effect; there is " +
                all_kinds},
           {{"--from", "1", "--include", "insert"}, "there is " + all_kinds},
           {{"--from", "1", "--only", "Insert", "--include", "Log"}, "--only"},
           {{"--from", "0"}, "--from"},
           {{"--from", "5", "--to", "4"}, "--from 5 is behind --to 4"},
           {{"--since", "soon"}, "--since: write a time such as"},
           {{"--from", "1", "--until", "soon"}, "--until: write a time such as"},
           {{"--from", "1", "--truncate", "nowhere"}, "--truncate: there is no table \"nowhere\""},
           {{"--from", "1", "--truncate", "spillway.events"}, "--truncate: the table name"},
           {{"--from", "1", "--truncate", "rows", "--dry-run"}, "--truncate"},
           {{"--resume", "nothing"}, "--resume nothing: there is no such replay"},
           {{"--resume", "x", "--from", "1"}, "--from"},
           {{"--from", "1", "--rate", "0"}, "--rate"},
           {{"--from", "1", "--on-error", "shrug"}, "--on-error"},
       }) {
    const auto refused = replay(database, test_handlers(), wrong.words);
    EXPECT_EQ(refused.exit_code, 2) << refused.errors;
    EXPECT_TRUE(contains(refused.errors, wrong.says)) << wrong.says << "\n" << refused.errors;
  }
  const auto no_handlers = replay(database, "", {"--from", "1"});
  EXPECT_EQ(no_handlers.exit_code, 2);
  EXPECT_TRUE(contains(no_handlers.errors, "--handlers")) << no_handlers.errors;
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.replays"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 0);

  // A name is for one thing.
  EXPECT_EQ(replay(database, test_handlers(), {"--from", "1", "--name", "n"}).exit_code, 0);
  const auto other =
      replay(database, test_handlers(), {"--from", "1", "--name", "n", "--type", "Row"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_TRUE(contains(other.errors, "--name n: there is a replay of that name")) << other.errors;

  const auto away = run({spillway_binary(), "replay", "--database-url", "host=/nonexistent",
                         "--handlers", test_handlers(), "--from", "1"});
  EXPECT_EQ(away.exit_code, 3) << away.errors;
  Database empty(false);
  EXPECT_EQ(replay(empty, test_handlers(), {"--from", "1"}).exit_code, 4);
}

}  // namespace
}  // namespace spillway::test
