// From one version of the schema to the next, with data in it and workers on it.
#include <gtest/gtest.h>

#include <signal.h>
#include <algorithm>

#include <atomic>

#include "processor/migrator.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

constexpr int first_landed = 4;   // queue, broadcasts, status
constexpr int second_landed = 7;  // and keys, responses, webhooks

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Events in every state that the first schema knows, in the tables that it has. Done ones have two
// broadcasts each.
constexpr const char* fill = R"(
INSERT INTO spillway.events (type, stream, payload, execute_at)
SELECT 'Old', s, jsonb_build_object('do', jsonb_build_array(jsonb_build_object('tell',
         jsonb_build_object('channel', 'Talk:' || s, 'event_type', 'said', 'data', n)))),
       CASE WHEN s = 'later' THEN now() + interval '1 hour' WHEN s = 'soon' THEN now() + interval '1 s'
            ELSE now() END
FROM (VALUES (1, 'done'), (2, 'done'), (3, 'done'), (4, 'pending'), (5, 'pending'), (6, 'waiting'),
             (7, 'waiting'), (8, 'waiting'), (9, 'dead'), (10, 'later'), (11, 'soon'), (12, 'pending'))
     AS e(n, s) ORDER BY n;
DELETE FROM spillway.queue WHERE event_id IN (1, 2, 3, 6, 7, 8, 9);
INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at, error, sqlstate) VALUES
  (6, spillway.lane_of('waiting', 6), 'waiting', 2, now(), 'event 6 (Old): it rained', NULL),
  (7, spillway.lane_of('waiting', 7), 'waiting', 0, NULL, NULL, NULL),
  (8, spillway.lane_of('waiting', 8), 'waiting', 0, NULL, NULL, NULL);
INSERT INTO spillway.dead_letters (event_id, error, sqlstate, attempts)
  VALUES (9, 'event 9 (Old): no such column', '42703', 1);
INSERT INTO spillway.broadcasts (position, channel, event_type, data, event_id)
  SELECT n, 'Talk:done', 'said', to_json(n), (n + 1) / 2 FROM generate_series(1, 6) n;
UPDATE spillway.stream_head SET last = 6;
)";

constexpr const char* states =
    "SELECT string_agg(event_id || ' ' || status || coalesce(' ' || attempts, ''), ', '"
    " ORDER BY event_id) FROM spillway.event_status";
constexpr const char* outbox =
    "SELECT string_agg(concat_ws(' ', position, channel, event_type, data, event_id), ', '"
    " ORDER BY position) FROM spillway.broadcasts";

void expect_an_upgrade_from(int version) {
  Database database(false);
  PgConnection session(database.target());
  migrate(session, {}, version);
  EXPECT_EQ(schema_version(session), version);
  database.query(fill);
  if (version >= second_landed)
    database.query(
        "INSERT INTO spillway.kv (key, value) VALUES ('k', '[1]');"
        "INSERT INTO spillway.results (event_id, response) VALUES (1, '{\"a\": 1}');"
        "INSERT INTO spillway.webhooks (event_id, correlation_id, url, host, payload, status,"
        " finished_at) VALUES (1, gen_random_uuid(), 'http://x/', 'x', '{}', 'sent', now())");
  const std::string before = database.value(states);
  const std::string broadcasts = database.value(outbox);
  const std::string epoch = database.value("SELECT epoch FROM spillway.stream_head");
  EXPECT_EQ(
      before,
      "1 done, 2 done, 3 done, 4 pending 0, 5 pending 0, 6 retrying 2, 7 pending 0, 8 pending "
      "0, 9 dead 1, 10 scheduled 0, 11 scheduled 0, 12 pending 0");

  const auto all = list_migrations(session);
  EXPECT_EQ(
      migrate(session).size(),
      static_cast<std::size_t>(std::count_if(
          all.begin(), all.end(), [](const Migration& migration) { return !migration.applied; })));
  EXPECT_EQ(schema_version(session), newest_schema_version());
  EXPECT_EQ(database.value(states), before);
  EXPECT_EQ(database.value(outbox), broadcasts);
  EXPECT_EQ(database.value("SELECT epoch || ' ' || last FROM spillway.stream_head"), epoch + " 6");
  EXPECT_EQ(database.value("SELECT last_error FROM spillway.event_status WHERE event_id = 6"),
            "event 6 (Old): it rained");
  EXPECT_EQ(database.value("SELECT error || sqlstate FROM spillway.dead_letters"),
            "event 9 (Old): no such column42703");
  if (version >= second_landed) {
    EXPECT_EQ(database.value("SELECT k.value || r.response::text || w.status FROM spillway.kv k,"
                             " spillway.results r, spillway.webhooks w"),
              "[1]{\"a\": 1}sent");
  }

  // A client that had read up to position 4 goes on from there, and everything that was left is
  // done, each stream in its order, with positions that go on.
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) VALUES ('New', 'pending',"
      " '{\"do\":[{\"tell\":{\"channel\":\"Talk:pending\",\"event_type\":\"said\",\"data\":13}}]}'"
      ")");
  Worker worker(database.url(), {"--handlers", test_handlers()});
  worker.wait_until_ready();
  SseClient client(worker.port(), "/sse?channel=Talk:*", epoch + "-4");
  const std::string done = "SELECT count(*) FROM spillway.event_status WHERE status = 'done'";
  EXPECT_TRUE(eventually([&] { return database.number(done) == 11; })) << database.value(states);
  EXPECT_EQ(
      database.value("SELECT string_agg(event_id || ' ' || status, ', ' ORDER BY event_id) FROM"
                     " spillway.event_status WHERE status <> 'done'"),
      "9 dead, 10 scheduled");
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(position), max(position))"
                           " FROM spillway.broadcasts"),
            "14 1 14");
  for (const auto& [stream, order] : std::vector<std::pair<std::string, std::string>>{
           {"waiting", "6 7 8"}, {"pending", "4 5 12 13"}, {"soon", "11"}})
    EXPECT_EQ(database.value("SELECT string_agg(data::text, ' ' ORDER BY position) FROM"
                             " spillway.broadcasts WHERE channel = 'Talk:" +
                             stream + "'"),
              order);
  ASSERT_TRUE(client.next());  // that it is connected
  for (std::uint64_t position = 5; position <= 14; ++position) {
    const auto frame = client.next();
    ASSERT_TRUE(frame) << position;
    EXPECT_EQ(frame->position(), position);
  }
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Upgrades, of_the_first_schema_keep_every_event_in_its_state_and_every_broadcast) {
  expect_an_upgrade_from(first_landed);
}

TEST(Upgrades, of_the_second_schema_keep_every_event_in_its_state_and_every_broadcast) {
  expect_an_upgrade_from(second_landed);
}

TEST(Upgrades, of_a_schema_in_use_end_a_running_worker_with_exit_code_4) {
  Database database;
  database.query("CREATE TABLE good (n int)");
  Worker worker(database.url(), {"--handlers", test_handlers()});
  worker.wait_until_ready();
  Process streams({spillway_binary(), "run", "--roles", "sse", "--database-url", database.url(),
                   "--listen", "127.0.0.1:0"});
  EXPECT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.live_workers") == 2; }));
  database.query(
      "BEGIN; INSERT INTO spillway.migrations (version, name) VALUES (9999, 'from the future');"
      "INSERT INTO spillway.events (type, payload) SELECT 'Told',"
      " '{\"do\":[{\"insert\":{\"table\":\"good\",\"data\":{\"n\":1}}}]}' FROM generate_series(1, "
      "50);"
      "COMMIT");
  for (Process* process : {&worker.process(), &streams}) {
    EXPECT_EQ(process->wait(), 4) << process->errors();
    EXPECT_TRUE(contains(process->errors(), "the database's schema has version 9999"))
        << process->errors();
  }
  // Not one batch by the old rules; and the processes have gone in order.
  EXPECT_EQ(database.number("SELECT count(*) FROM good"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.workers"), 0);
}

TEST(Upgrades, of_a_database_under_load_give_way_and_come_again) {
  Database database(false);
  PgConnection session(database.target());
  migrate(session, {}, second_landed);
  PgConnection writer(database.target());
  writer.exec("BEGIN");
  writer.exec("INSERT INTO spillway.events (type) VALUES ('A')");
  // What a worker holds during a batch.
  PgConnection batch(database.target());
  batch.exec("BEGIN");
  batch.exec("SELECT pg_advisory_xact_lock(" + std::to_string(0x53504c57) + ", 5)");
  std::atomic<int> retries{0};
  std::atomic<bool> migrated{false};
  {
    std::jthread migration([&] {
      migrate(session, [&](const std::string&) { ++retries; });
      migrated = true;
    });
    EXPECT_TRUE(eventually([&] { return retries == 1; }));
    EXPECT_FALSE(migrated) << "while a batch runs";
    EXPECT_EQ(database.number("SELECT max(version) FROM spillway.migrations"), second_landed);
    // A writer that comes while it waits is not held up for long.
    database.query("INSERT INTO spillway.events (type) VALUES ('B')");
    batch.exec("COMMIT");
    writer.exec("COMMIT");
  }
  EXPECT_TRUE(migrated);
  Worker worker(database.url(), {"--handlers", test_handlers()});
  EXPECT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM spillway.event_status WHERE status = 'done'") == 2;
  }));
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Upgrades, status_says_what_is_applied_and_when) {
  const auto status = [](const Database& database) {
    return run({spillway_binary(), "migrate", "--status", "--database-url", database.url()});
  };
  Database database(false);
  const auto none = status(database);
  EXPECT_EQ(none.exit_code, 0) << none.errors;
  EXPECT_TRUE(contains(none.output, "pending  1  events\n")) << none.output;
  EXPECT_TRUE(contains(none.output, "the database has no spillway schema\n")) << none.output;
  EXPECT_EQ(database.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'spillway'"), 0)
      << "asking changes nothing";

  PgConnection session(database.target());
  migrate(session, {}, first_landed);
  const auto some = status(database);
  EXPECT_EQ(some.exit_code, 0);
  const auto time = database.value(
      "SELECT to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM"
      " spillway.migrations WHERE version = 4");
  EXPECT_TRUE(contains(some.output, "applied  4  status  " + time + "Z\n")) << some.output;
  EXPECT_TRUE(contains(some.output, "pending  5  kv\n")) << some.output;
  EXPECT_TRUE(contains(some.output, "schema version 4\n")) << some.output;

  database.query(
      "INSERT INTO spillway.migrations (version, name) VALUES (9999, 'from the future')");
  const auto newer = status(database);
  EXPECT_EQ(newer.exit_code, 4);
  EXPECT_TRUE(contains(newer.output, "applied  9999  from the future")) << newer.output;
  EXPECT_TRUE(contains(newer.errors, "9999")) << newer.errors;
}

}  // namespace
}  // namespace spillway::test
