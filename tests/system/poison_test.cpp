// Events that cannot be handled: they end as dead letters that say what is wrong, and cost nobody
// else anything.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr const char* tables =
    "CREATE TABLE good (n int PRIMARY KEY CONSTRAINT n_is_not_negative CHECK (n >= 0),"
    " at timestamptz);"
    "CREATE TABLE parent (id int PRIMARY KEY);"
    "CREATE TABLE child (n int, parent_id int CONSTRAINT child_has_a_parent REFERENCES parent"
    " DEFERRABLE INITIALLY DEFERRED)";

json insert_into(const std::string& table, json data) {
  return {{"insert", {{"table", table}, {"data", std::move(data)}}}};
}
json tell(const std::string& channel) {
  return {{"tell", {{"channel", channel}, {"event_type", "told"}, {"data", 1}}}};
}
std::string payload_of(json steps) {
  return json{{"do", std::move(steps)}}.dump();
}

struct PoisonKind {
  std::string type;
  json steps;
  std::string sqlstate;  // "" for none
  int attempts;
  std::string error;  // behind "event <id> (<type>): "
};

constexpr int max_attempts = 3;

std::vector<PoisonKind> poison_kinds() {
  const json good = insert_into("good", {{"n", 100'000}});  // must not be there in the end
  return {
      {"Throws",
       {{{"throw", "it broke in two"}}},
       "",
       max_attempts,
       "the handler threw: it broke in two"},
      {"ThrowsANumber",
       {{{"throw_number", 7}}},
       "",
       max_attempts,
       "the handler threw something that is not a std::exception"},
      {"UnknownColumn",
       {tell("a"), insert_into("good", {{"n", 1}, {"colour", "red"}})},
       "",
       1,
       "effect 1 (Insert), field \"data\": table \"good\" has no column \"colour\"; it has at, n"},
      {"UnknownTable",
       {good, insert_into("no_such_table", {{"n", 1}})},
       "",
       1,
       "effect 1 (Insert), field \"table\": there is no table \"no_such_table\""},
      {"ReservedTable",
       {insert_into("spillway.events", {{"type", "X"}})},
       "",
       1,
       "effect 0 (Insert), field \"table\": \"spillway.events\" names schema \"spillway\", which no"
       " effect may write to"},
      {"SystemTable",
       {good, tell("a"), insert_into("pg_catalog.pg_class", {{"relname", "x"}})},
       "",
       1,
       "effect 2 (Insert), field \"table\": \"pg_catalog.pg_class\" names schema \"pg_catalog\","
       " which no effect may write to"},
      {"SystemTableInDisguise",
       {insert_into("pg_class", {{"relname", "x"}})},
       "",
       1,
       "effect 0 (Insert), field \"table\": \"pg_class\" is a table of schema \"pg_catalog\", which"
       " no effect may write to"},
      {"BadChannel",
       {good, tell("two\nlines")},
       "",
       1,
       "effect 1 (SSEBroadcast), field \"channel\": contains a control character, such as a line "
       "break"},
      {"NoChannel",
       {tell("")},
       "",
       1,
       "effect 0 (SSEBroadcast), field \"channel\": is empty; write a name like "
       "CommentStream:item:42"},
      {"NoRow",
       {insert_into("good", 5)},
       "",
       1,
       "effect 0 (Insert), field \"data\": must be an object of columns or an array of such "
       "objects,"
       " not number"},
      {"WrongType",
       {good, insert_into("good", {{"n", "seven"}})},
       "22P02",
       1,
       "effect 1 (Insert into good): invalid input syntax for type integer: \"seven\""},
      {"WrongTime",
       {insert_into("good", {{"n", 100'001}, {"at", "next Wednesday-ish"}})},
       "22007",
       1,
       "effect 0 (Insert into good): invalid input syntax for type timestamp with time zone:"
       " \"next Wednesday-ish\""},
      {"TooLarge",
       {insert_into("good", {{"n", 3'000'000'000}})},
       "22003",
       1,
       "effect 0 (Insert into good): value \"3000000000\" is out of range for type integer"},
      {"Negative",
       {good, insert_into("good", {{"n", -1}})},
       "23514",
       max_attempts,
       "effect 1 (Insert into good): new row for relation \"good\" violates check constraint"
       " \"n_is_not_negative\"; Failing row contains (-1, null)."},
      {"Twice",
       {good, insert_into("good", {{"n", 0}})},
       "23505",
       max_attempts,
       "effect 1 (Insert into good): duplicate key value violates unique constraint \"good_pkey\";"
       " Key (n)=(0) already exists."},
      {"NoParent",
       {good, insert_into("child", {{"n", 1}, {"parent_id", 999}})},
       "23503",
       max_attempts,
       "insert or update on table \"child\" violates foreign key constraint \"child_has_a_parent\";"
       " Key (parent_id)=(999) is not present in table \"parent\"."},
  };
}

TEST(Poison, among_ten_thousand_good_events_is_named_and_costs_none_of_them) {
  std::mt19937_64 random(printed_seed());
  constexpr int good_count = 10'000;
  Database database;
  database.query(tables);
  database.query("INSERT INTO good (n) VALUES (0)");

  // Poison of each kind twice, at random places; a third of it in streams that good events use too.
  const auto kinds = poison_kinds();
  std::map<int, std::vector<std::size_t>> poison_after;  // by the number of good events before
  for (std::size_t i = 0; i < 2 * kinds.size(); ++i)
    poison_after[std::uniform_int_distribution<int>(0, good_count)(random)].push_back(i %
                                                                                      kinds.size());
  const auto some_stream = [&]() -> std::string {
    const int number = std::uniform_int_distribution<int>(0, 89)(random);
    return number < 30 ? "'s" + std::to_string(number) + "'" : "NULL";
  };
  std::string values;
  const auto add = [&](const std::string& type, const std::string& payload) {
    values += (values.empty() ? "(" : ",(") + sql_quoted(type) + "," + some_stream() + "," +
              sql_quoted(payload) + ")";
  };
  for (int n = 0; n <= good_count; ++n) {
    if (n > 0) add("Good", payload_of({insert_into("good", {{"n", n}}), tell("good")}));
    for (const std::size_t kind : poison_after[n])
      add(kinds[kind].type, payload_of(kinds[kind].steps));
  }
  database.query("INSERT INTO spillway.events (type, stream, payload) VALUES " + values);

  Worker worker(database.url(),
                {"--handlers", test_handlers(), "--max-attempts", std::to_string(max_attempts),
                 "--retry-delay", "50ms", "--runners", "2"});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));

  // The good ones: all of them, and not a trace of the others.
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(n), max(n)) FROM good"),
            "10001 0 10000");
  EXPECT_EQ(database.number("SELECT count(*) FROM child"), 0);
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(position), max(position),"
                           " min(channel), max(channel)) FROM spillway.broadcasts"),
            "10000 1 10000 good good");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status"
                            " WHERE type = 'Good' AND status <> 'done'"),
            0);
  EXPECT_EQ(database.number(
                "SELECT count(*) FROM (SELECT b.event_id, lag(b.event_id) OVER"
                " (PARTITION BY e.stream ORDER BY b.position) AS before FROM spillway.broadcasts b"
                " JOIN spillway.events e ON e.id = b.event_id WHERE e.stream IS NOT NULL) o"
                " WHERE before > event_id"),
            0);

  // The poison: each one's words.
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"),
            static_cast<long long>(2 * kinds.size()));
  for (const PoisonKind& kind : kinds) {
    SCOPED_TRACE(kind.type);
    const Rows rows = database.query(
        "SELECT e.id, d.error, d.sqlstate, d.attempts, s.status, s.attempts, s.last_error"
        " FROM spillway.events e JOIN spillway.event_status s ON s.event_id = e.id"
        " LEFT JOIN spillway.dead_letters d ON d.event_id = e.id WHERE e.type = '" +
        kind.type + "'");
    ASSERT_EQ(rows.size(), 2u);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const std::string error =
          "event " + rows.string(row, 0) + " (" + kind.type + "): " + kind.error;
      EXPECT_EQ(rows.string(row, 1), error);
      EXPECT_EQ(rows.string(row, 2), kind.sqlstate);
      EXPECT_EQ(rows.is_null(row, 2), kind.sqlstate.empty());
      EXPECT_EQ(rows.integer<int>(row, 3), kind.attempts);
      EXPECT_EQ(rows.string(row, 4), "dead");
      EXPECT_EQ(rows.integer<int>(row, 5), kind.attempts);
      EXPECT_EQ(rows.string(row, 6), error);
    }
  }
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Poison, an_events_own_max_attempts_wins) {
  Database database;
  database.query("INSERT INTO spillway.events (type, payload, max_attempts) VALUES ('Throws', '" +
                 payload_of({{{"throw", "no"}}}) + "', 2), ('Throws', '" +
                 payload_of({{{"throw", "no"}}}) + "', NULL)");
  Worker worker(database.url(),
                {"--handlers", test_handlers(), "--max-attempts", "4", "--retry-delay", "10ms"});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.value("SELECT string_agg(attempts::text, ' ' ORDER BY event_id)"
                           " FROM spillway.dead_letters"),
            "2 4");
}

TEST(Poison, holds_back_its_own_stream_while_it_retries_and_no_other) {
  Database database;
  database.query(tables);
  // Nothing comes back before 2 s have passed, so there is time to look.
  Worker worker(database.url(),
                {"--handlers", test_handlers(), "--max-attempts", "2", "--retry-delay", "4s"});
  worker.wait_until_ready();
  const auto row = [](int n) { return payload_of({insert_into("good", {{"n", n}}), tell("row")}); };
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) VALUES"
      " ('Before', 'sick', '" +
      row(1) + "'), ('Sick', 'sick', '" + payload_of({{{"throw", "not today"}}}) +
      "'), ('Behind', 'sick', '" + row(2) + "'), ('Other', 'well', '" + row(3) +
      "'), ('Behind', 'sick', '" + row(4) + "')");
  // Those that come later wait in the same line.
  ASSERT_TRUE(eventually([&] {
    return database.value("SELECT status FROM spillway.event_status WHERE type = 'Sick'") ==
           "retrying";
  }));
  database.query("INSERT INTO spillway.events (type, stream, payload) VALUES ('Behind', 'sick', '" +
                 row(5) + "'), ('Other', NULL, '" + row(6) + "')");
  const std::string sick = database.value("SELECT id FROM spillway.events WHERE type = 'Sick'");
  const std::string picture =
      "SELECT string_agg(concat_ws('/', type, status, attempts, last_error), ', ' ORDER BY "
      "event_id)"
      " FROM spillway.event_status";
  const std::string held = "Behind/pending/0/held back by event " + sick + " of the same stream";
  const std::string expected = "Before/done, Sick/retrying/1/event " + sick +
                               " (Sick): the handler threw: not today, " + held + ", Other/done, " +
                               held + ", " + held + ", Other/done";
  EXPECT_TRUE(eventually([&] { return database.value(picture) == expected; }, 3s))
      << database.value(picture);
  EXPECT_GT(database.number("SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) * 1000"
                            " FROM spillway.event_status WHERE type = 'Sick'"),
            -60'000);

  // Then it dies, and those behind it run, in order.
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.value("SELECT string_agg(event_id || ' ' || attempts, ', ')"
                           " FROM spillway.dead_letters"),
            sick + " 2");
  EXPECT_EQ(database.value("SELECT string_agg(e.payload #>> '{do,0,insert,data,n}', ' '"
                           " ORDER BY b.position) FROM spillway.broadcasts b"
                           " JOIN spillway.events e ON e.id = b.event_id WHERE e.stream = 'sick'"),
            "1 2 4 5");
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Poison, that_is_mended_in_time_is_done_and_then_those_behind_it) {
  Database database;
  database.query(tables);
  database.query("ALTER TABLE good ADD CONSTRAINT closed CHECK (n <> 2)");
  Worker worker(database.url(),
                {"--handlers", test_handlers(), "--max-attempts", "1000", "--retry-delay", "20ms"});
  worker.wait_until_ready();
  std::string values;
  for (int n = 1; n <= 50; ++n)
    values += (n == 1 ? "" : ",") +
              ("('Row','s','" + payload_of({insert_into("good", {{"n", n}}), tell("row")})) + "')";
  database.query("INSERT INTO spillway.events (type, stream, payload) VALUES " + values);
  ASSERT_TRUE(eventually([&] {
    return database.value(
               "SELECT attempts >= 2 FROM spillway.event_status"
               " WHERE status = 'retrying'") == "t";
  }));
  EXPECT_EQ(database.value("SELECT string_agg(n::text, ' ') FROM good"), "1");
  database.query("ALTER TABLE good DROP CONSTRAINT closed");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.number("SELECT count(*) FROM good"), 50);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM (SELECT event_id, lag(event_id) OVER"
                            " (ORDER BY position) AS before FROM spillway.broadcasts) o"
                            " WHERE before > event_id"),
            0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Poison, an_event_without_a_handler_is_done_or_dead_as_asked) {
  Database database;
  load_example(database);
  database.query("INSERT INTO spillway.events (type) VALUES ('Nobody')");
  {
    Worker worker(database.url(), {"--handlers", comments_library()});
    worker.wait_until_ready();
    EXPECT_TRUE(eventually([&] { return drained(database); }));
    EXPECT_EQ(database.value("SELECT status FROM spillway.event_status"), "done");
    EXPECT_EQ(worker.stop(), 0);
  }
  database.query("INSERT INTO spillway.events (type) VALUES ('Nobody')");
  Worker worker(database.url(), {"--handlers", comments_library(), "--unhandled", "dead"});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.value("SELECT error || '/' || attempts FROM spillway.dead_letters"),
            "event 2 (Nobody): there is no handler for type \"Nobody\"/1");
}

}  // namespace
}  // namespace spillway::test
