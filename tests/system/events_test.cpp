// What inserting promises: times, keys, versions, an append-only log, and how little right it
// takes.
#include <gtest/gtest.h>

#include <atomic>
#include <regex>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

TEST(Events, that_are_scheduled_run_soon_after_their_time_and_never_before) {
  Database database;
  load_example(database);
  Worker worker(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  worker.wait_until_ready();
  database.query(
      "INSERT INTO spillway.events (type, payload, execute_at)"
      " SELECT 'UserJoined', '{\"user\":\"Ada\"}', clock_timestamp() + n * interval '20 ms'"
      " FROM generate_series(1, 100) n");
  EXPECT_EQ(database.value("SELECT status FROM spillway.event_status WHERE event_id = 100"),
            "scheduled");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  const Rows lag = database.query(
      "SELECT count(*), min(extract(epoch FROM b.created_at - e.execute_at)),"
      " max(extract(epoch FROM b.created_at - e.execute_at))"
      " FROM spillway.broadcasts b JOIN spillway.events e ON e.id = b.event_id");
  EXPECT_EQ(lag.integer(0, 0), 100);
  EXPECT_GE(std::stod(lag.string(0, 1)), 0.0);
  EXPECT_LT(std::stod(lag.string(0, 2)), 5.0);
  RecordProperty("longest_wait_seconds", lag.string(0, 2));
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Events, of_one_idempotency_key_are_one_event) {
  Database database;
  load_example(database);
  PgConnection session(database.target());
  const std::string insert =
      "INSERT INTO spillway.events (type, payload, idempotency_key)"
      " VALUES ('CommentAdded', '{\"item_id\":\"1\",\"text\":\"hi\"}', 'order 7')";
  session.exec(insert);
  EXPECT_EQ(refusal_of(session, insert).sqlstate, "23505");
  EXPECT_EQ(session.exec(insert + " ON CONFLICT DO NOTHING RETURNING id").size(), 0u);
  EXPECT_EQ(session.exec(insert + " ON CONFLICT (idempotency_key) DO NOTHING RETURNING id").size(),
            0u);
  Worker worker(database.url(), {"--handlers", comments_library()});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), 1);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1);
}

TEST(Events, carry_a_priority_a_correlation_and_a_cause) {
  Database database;
  const std::string id = "7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b11";
  database.query(
      "INSERT INTO spillway.events (type, priority, correlation_id, causation_id)"
      " VALUES ('A', 5, '" +
      id + "', 3), ('B', -5, DEFAULT, NULL)");
  Worker worker(database.url());
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws(' ', type, priority, causation_id,"
                           " correlation_id = '" +
                           id + "'), ', ' ORDER BY id) FROM spillway.events"),
            "A 5 3 t, B -5 f");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status = 'done'"), 2);
}

TEST(Events, appended_by_many_at_once_get_each_version_once) {
  constexpr int threads = 8;
  constexpr int each = 25;
  Database database;
  std::atomic<int> conflicts{0};
  std::atomic<int> appended{0};
  std::vector<std::string> wrong(threads);
  {
    std::vector<std::jthread> appenders;
    for (std::size_t t = 0; t < threads; ++t)
      appenders.emplace_back([&, t] {
        const std::regex words(
            R"re(stream "order:1" is at version (\d+), expected version (\d+).*)re");
        PgConnection session(database.target());
        for (int done = 0; done < each;) {
          const auto version =
              session.exec("SELECT spillway.stream_version('order:1')").integer<int>(0, 0);
          const Refusal refusal =
              refusal_of(session, "SELECT spillway.append('order:1', " + std::to_string(version) +
                                      ", 'LineAdded', '{\"by\":" + std::to_string(t) + "}')");
          std::smatch match;
          if (refusal.sqlstate.empty()) {
            ++done;
            ++appended;
          } else if (refusal.sqlstate == "40001" &&
                     std::regex_match(refusal.message, match, words) &&
                     std::stoi(match[2]) == version && std::stoi(match[1]) > version) {
            ++conflicts;
          } else {
            wrong[t] = refusal.sqlstate + " " + refusal.message;
            return;
          }
        }
      });
  }
  for (const auto& complaint : wrong) EXPECT_EQ(complaint, "");
  EXPECT_EQ(appended, threads * each);
  EXPECT_GT(conflicts, 0) << "nobody ever came too late";
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), count(DISTINCT stream_version),"
                           " min(stream_version), max(stream_version)) FROM spillway.events"),
            "200 200 1 200");
  EXPECT_EQ(
      database.number("SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY stream_version)"
                      " AS before FROM spillway.events) o WHERE before > id"),
      0);
}

TEST(Events, appended_with_a_stale_version_are_refused_by_both_versions) {
  Database database;
  PgConnection session(database.target());
  session.exec(
      "SELECT spillway.append('order:1', 0, 'Opened'), spillway.append('order:1', 1, 'Paid')");
  for (const auto& [expected, version] : {std::pair{"0", "0"}, {"1", "1"}, {"7", "7"}}) {
    const Refusal refusal = refusal_of(
        session, "SELECT spillway.append('order:1', " + std::string(expected) + ", 'X')");
    EXPECT_EQ(refusal.sqlstate, "40001");
    EXPECT_EQ(refusal.message,
              "stream \"order:1\" is at version 2, expected version " + std::string(version));
  }
  // Both see version 2; one of them is late.
  PgConnection first(database.target());
  first.exec("BEGIN");
  first.exec("SELECT spillway.append('order:1', 2, 'Sent')");
  Refusal late;
  std::jthread other([&] {
    PgConnection second(database.target());
    late = refusal_of(second, "SELECT spillway.append('order:1', 2, 'Cancelled')");
  });
  EXPECT_TRUE(eventually(
      [&] { return database.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0; }));
  first.exec("COMMIT");
  other.join();
  EXPECT_EQ(late.sqlstate, "40001");
  EXPECT_EQ(late.message, "stream \"order:1\" is at version 3, expected version 2");
  EXPECT_EQ(database.value("SELECT string_agg(type, ' ' ORDER BY id) FROM spillway.events"),
            "Opened Paid Sent");
  const long long id = database.number("SELECT spillway.append('order:1', NULL, 'Closed')");
  EXPECT_EQ(database.value("SELECT concat_ws(' ', id, type, stream_version) FROM spillway.events"
                           " ORDER BY id DESC LIMIT 1"),
            std::to_string(id) + " Closed 4");
}

TEST(Events, are_never_changed_or_deleted) {
  Database database;
  database.query("INSERT INTO spillway.events (type) VALUES ('A')");
  PgConnection session(database.target());
  for (const auto& [statement, name] :
       {std::pair{"UPDATE spillway.events SET type = 'B'", "UPDATE"},
        {"DELETE FROM spillway.events", "DELETE"},
        {"DELETE FROM spillway.events WHERE id = 999", "DELETE"},
        {"TRUNCATE spillway.events", "TRUNCATE"},
        {"TRUNCATE spillway.events CASCADE", "TRUNCATE"},
        {"INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k') ON CONFLICT"
         " (idempotency_key) DO UPDATE SET type = 'C'",
         "UPDATE"}}) {
    const Refusal refusal = refusal_of(session, statement);
    EXPECT_EQ(refusal.message,
              std::string("spillway.events is append-only: ") + name + " is refused")
        << statement;
  }
  EXPECT_EQ(database.value("SELECT string_agg(type, ' ') FROM spillway.events"), "A");
}

TEST(Events, that_make_no_sense_are_refused) {
  Database database;
  PgConnection session(database.target());
  for (const auto& [columns, values] : {std::pair{"type", "''"},
                                        {"type, stream", "'A', ''"},
                                        {"type, stream_version", "'A', 1"},
                                        {"type, stream, stream_version", "'A', 's', 0"},
                                        {"type, max_attempts", "'A', 0"}})
    EXPECT_EQ(refusal_of(session, std::string("INSERT INTO spillway.events (") + columns +
                                      ") VALUES (" + values + ")")
                  .sqlstate,
              "23514")
        << columns << " " << values;
  EXPECT_EQ(refusal_of(session, "INSERT INTO spillway.events (type) VALUES (NULL)").sqlstate,
            "23502");
  EXPECT_EQ(refusal_of(session, "INSERT INTO spillway.events (id, type) VALUES (1, 'A')").sqlstate,
            "428C9");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 0);
}

TEST(Events, need_no_more_than_insert_on_the_log) {
  Database database;
  load_example(database);
  const std::string role = "writer_of_" + database.value("SELECT current_database()");
  database.query("CREATE ROLE " + role + " LOGIN");
  struct DropRole {  // roles belong to the server, not to the database
    Database& database;
    const std::string& role;
    ~DropRole() {
      try {
        database.query("DROP OWNED BY " + role + "; DROP ROLE " + role);
      } catch (const std::exception&) {
        ADD_FAILURE() << "the role is still in use";
      }
    }
  } drop{database, role};
  const PgTarget target{url_as(database, role), "writer"};
  const std::string insert =
      "INSERT INTO spillway.events (type, payload, idempotency_key) VALUES ('CommentAdded',"
      " '{\"item_id\":\"1\",\"text\":\"hi\"}', ";
  {
    PgConnection session(target);
    EXPECT_EQ(refusal_of(session, insert + "'a')").sqlstate, "42501");
  }
  database.query("GRANT INSERT ON spillway.events TO " + role);
  PgConnection session(target);
  EXPECT_EQ(session.exec("SELECT current_user").string(0, 0), role);
  session.exec(insert + "'a')");
  EXPECT_GT(session.exec(insert + "'b') RETURNING id").integer(0, 0), 0);
  EXPECT_EQ(session.exec(insert + "'b') ON CONFLICT DO NOTHING").size(), 0u);
  EXPECT_GT(session
                .exec("SELECT spillway.append('item:1', 0, 'CommentAdded',"
                      " '{\"item_id\":\"1\",\"text\":\"hi\"}')")
                .integer(0, 0),
            0);
  session.exec("INSERT INTO spillway.events (type, execute_at) VALUES ('Later', now() + '1 ms')");

  for (const char* statement : {"SELECT payload FROM spillway.events",
                                "SELECT * FROM spillway.events",
                                "UPDATE spillway.events SET type = 'B'",
                                "DELETE FROM spillway.events",
                                "TRUNCATE spillway.events",
                                "SELECT * FROM spillway.queue",
                                "DELETE FROM spillway.queue",
                                "INSERT INTO spillway.queue VALUES (0, 0, 0)",
                                "SELECT * FROM spillway.scheduled",
                                "SELECT * FROM spillway.waiting",
                                "SELECT * FROM spillway.dead_letters",
                                "DELETE FROM spillway.dead_letters",
                                "SELECT * FROM spillway.event_status",
                                "SELECT * FROM spillway.broadcasts",
                                "SELECT * FROM spillway.ephemeral_broadcasts",
                                "SELECT * FROM spillway.stream_head",
                                "UPDATE spillway.stream_head SET last = 0",
                                "SELECT * FROM spillway.migrations",
                                "SELECT nextval('spillway.queue_seq')",
                                "SELECT setval('spillway.armed', 0)",
                                "SELECT spillway.enqueue()",
                                "CREATE TABLE spillway.mine (n int)",
                                "SELECT * FROM item_comments"})
    EXPECT_EQ(refusal_of(session, statement).sqlstate, "42501") << statement;

  Worker worker(database.url(), {"--handlers", comments_library()});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), 3);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status = 'done'"), 4);
}

}  // namespace
}  // namespace spillway::test
