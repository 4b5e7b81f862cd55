// The schema that the migrations make, compared with tests/processor/schema.snapshot, so that every
// change of it shows in review. To accept a change: SPILLWAY_UPDATE_SNAPSHOT=1 processor_test
// --gtest_filter='Schema.*', and look at the difference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;

// Definitions as the catalogue gives them, one line or block each; nothing that depends on the
// server's minor version or on the user who runs it.
constexpr const char* snapshot_sql = R"(
WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = 'spillway'),
relation AS (SELECT c.* FROM pg_class c, n WHERE c.relnamespace = n.oid),
line AS (
  SELECT format('%s %s: %s %s%s%s%s', CASE r.relkind WHEN 'v' THEN 'view' ELSE 'table' END, r.relname, a.attname,
           format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' END,
           CASE a.attidentity WHEN 'a' THEN ' generated always as identity' END,
           ' default ' || pg_get_expr(d.adbin, d.adrelid)) AS text, 1 AS part, r.relname AS name, a.attnum AS n
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
  WHERE r.relkind IN ('r', 'p', 'v')
  UNION ALL SELECT format('table %s: unlogged', relname), 1, relname, 0 FROM relation WHERE relpersistence = 'u' AND relkind = 'r'
  UNION ALL SELECT format('table %s: with (%s)', relname, array_to_string(reloptions, ', ')), 1, relname, 99
    FROM relation WHERE reloptions IS NOT NULL
  UNION ALL SELECT format('constraint %s on %s: %s', c.conname, r.relname, pg_get_constraintdef(c.oid)), 2, r.relname, 0
    FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid WHERE c.contype <> 'n'
  UNION ALL SELECT 'index: ' || pg_get_indexdef(i.indexrelid), 3, r.relname, 0
    FROM pg_index i JOIN relation r ON r.oid = i.indrelid
  UNION ALL SELECT 'trigger: ' || pg_get_triggerdef(t.oid), 4, r.relname, 0
    FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL SELECT format('sequence %s: %s from %s to %s cache %s', r.relname, format_type(s.seqtypid, NULL), s.seqmin, s.seqmax, s.seqcache), 5, r.relname, 0
    FROM pg_sequence s JOIN relation r ON r.oid = s.seqrelid
  UNION ALL SELECT 'view ' || relname || E':\n' || pg_get_viewdef(oid), 6, relname, 0 FROM relation WHERE relkind = 'v'
  UNION ALL SELECT pg_get_functiondef(p.oid), 7, p.proname, 0 FROM pg_proc p, n WHERE p.pronamespace = n.oid
  UNION ALL SELECT format('public may execute %s: %s', p.proname, has_function_privilege('nobody_special', p.oid, 'EXECUTE')), 8, p.proname, 0
    FROM pg_proc p, n WHERE p.pronamespace = n.oid
  UNION ALL SELECT format('public may on %s: %s', r.relname, string_agg(privilege, ', ' ORDER BY privilege)), 9, r.relname, 0
    FROM relation r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
    WHERE r.relkind IN ('r', 'p', 'v') AND (has_table_privilege('nobody_special', r.oid, privilege)
       OR (privilege IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege('nobody_special', r.oid, privilege)))
    GROUP BY r.relname
)
SELECT string_agg(text, E'\n' ORDER BY part, name, n, text) FROM line)";

TEST(Schema, IsTheSnapshot) {
  Database database;
  database.query(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nobody_special') THEN"
      " CREATE ROLE nobody_special; END IF; END$$");
  const std::string now = database.value(snapshot_sql) + "\n";
  ASSERT_GT(now.size(), 1000u);
  if (std::getenv("SPILLWAY_UPDATE_SNAPSHOT") != nullptr) std::ofstream(SCHEMA_SNAPSHOT) << now;
  std::ifstream file(SCHEMA_SNAPSHOT);
  std::stringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(now, expected.str());
}

TEST(Schema, EventsProtectThemselvesAgainstUpdateDeleteAndTruncate) {
  Database database;
  database.query("INSERT INTO spillway.events (type) VALUES ('A')");
  for (const char* sql : {"UPDATE spillway.events SET type = 'B'", "DELETE FROM spillway.events",
                          "TRUNCATE spillway.events",
                          "INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k') "
                          "ON CONFLICT (idempotency_key) DO UPDATE SET type = 'B'"}) {
    try {
      database.query(sql);
      ADD_FAILURE() << sql;
    } catch (const SqlError& error) {
      EXPECT_NE(std::string(error.what()).find("spillway.events is append-only"), std::string::npos)
          << error.what();
    }
  }
  EXPECT_EQ(database.value("SELECT type FROM spillway.events"), "A");
}

TEST(Schema, DefaultsAreThoseOfTheContract) {
  Database database;
  database.query("INSERT INTO spillway.events (type) VALUES ('A')");
  EXPECT_EQ(
      database.value(
          "SELECT payload::text || context::text || (stream IS NULL) || (stream_version IS NULL)"
          " || (causation_id IS NULL) || (idempotency_key IS NULL) || priority"
          " || (max_attempts IS NULL) || (correlation_id IS NOT NULL)"
          " || (execute_at <= created_at) FROM spillway.events"),
      "{}{}truetruetruetrue0truetruetrue");
  EXPECT_THROW(database.query("INSERT INTO spillway.events (type) VALUES ('')"), SqlError);
  EXPECT_THROW(database.query("INSERT INTO spillway.events (id, type) VALUES (7, 'A')"), SqlError);
}

TEST(Schema, AStreamVersionIsTakenOnce) {
  Database database;
  EXPECT_EQ(database.number("SELECT spillway.append('s', 0, 'A', '{}')"), 1);
  EXPECT_EQ(database.number("SELECT spillway.append('s', 1, 'B', '{\"x\":1}')"), 2);
  try {
    database.query("SELECT spillway.append('s', 1, 'C', '{}')");
    FAIL() << "a stale version was taken";
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "40001");
    EXPECT_STREQ(error.what(), "stream \"s\" is at version 2, expected version 1");
  }
  EXPECT_THROW(database.query("SELECT spillway.append('s', 9, 'C', '{}')"), SqlError);
  EXPECT_GT(database.number("SELECT spillway.append('s', NULL, 'C', '{}')"), 2);
  EXPECT_EQ(database.number("SELECT max(stream_version) FROM spillway.events"), 3);
  EXPECT_THROW(database.query("SELECT spillway.append(NULL, 0, 'C', '{}')"), SqlError);
}

TEST(Schema, AppendTellsAUsedIdempotencyKeyFromAStaleVersion) {
  Database database;
  database.query("SELECT spillway.append('s', 0, 'A', '{}', idempotency_key => 'k')");
  try {
    database.query("SELECT spillway.append('s', 1, 'A', '{}', idempotency_key => 'k')");
    FAIL() << "the key was taken twice";
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "23505");
    EXPECT_STREQ(error.what(), "an event with idempotency_key \"k\" is there already");
  }
}

TEST(Schema, ARoleNeedsInsertOnEventsAndNothingElse) {
  Database database;
  database.query(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'writer') THEN"
      " CREATE ROLE writer; END IF; END$$; GRANT INSERT ON spillway.events TO writer");
  PgConnection session(database.target());
  session.exec("SET ROLE writer");
  EXPECT_EQ(
      session
          .exec(
              "INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k') RETURNING id")
          .size(),
      1u);
  session.exec(
      "INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k') ON CONFLICT DO "
      "NOTHING");
  session.exec(
      "INSERT INTO spillway.events (type, execute_at) VALUES ('A', now() + interval '1 hour')");
  EXPECT_EQ(session.exec("SELECT spillway.append('s', 0, 'A', '{}')").size(), 1u);
  for (const char* table :
       {"events", "queue", "broadcasts", "dead_letters", "waiting", "stream_head", "event_status"})
    EXPECT_THROW(session.exec(std::string("SELECT * FROM spillway.") + table), SqlError) << table;
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 2);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.scheduled"), 1);
}

// The trigger runs with its owner's rights and without a search_path of its own.
TEST(Schema, ACallersSearchPathDoesNotLeadTheTriggerAstray) {
  Database database;
  const std::string role = "stranger_" + database.value("SELECT current_database()");
  database.query("CREATE ROLE " + role + "; GRANT INSERT ON spillway.events TO " + role +
                 "; CREATE SCHEMA trap AUTHORIZATION " + role);
  PgConnection session(database.target());
  session.exec("SET ROLE " + role);
  // Everything the trigger uses, by the same names and more fitting types.
  session.exec(R"(
    SET search_path = trap, pg_catalog;
    CREATE TABLE trap.seen (who text);
    CREATE FUNCTION trap.caught() RETURNS boolean LANGUAGE plpgsql AS
      $f$BEGIN INSERT INTO trap.seen VALUES (current_user); RETURN true; END$f$;
    CREATE FUNCTION trap.after(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT trap.caught()';
    CREATE FUNCTION trap.small(smallint, int) RETURNS boolean LANGUAGE sql AS 'SELECT trap.caught()';
    CREATE FUNCTION trap.big(bigint, int) RETURNS boolean LANGUAGE sql AS 'SELECT trap.caught()';
    CREATE FUNCTION trap.big8(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT trap.caught()';
    CREATE OPERATOR trap.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.after);
    CREATE OPERATOR trap.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.after);
    CREATE OPERATOR trap.<> (LEFTARG = smallint, RIGHTARG = int, FUNCTION = trap.small);
    CREATE OPERATOR trap.> (LEFTARG = smallint, RIGHTARG = int, FUNCTION = trap.small);
    CREATE OPERATOR trap.= (LEFTARG = bigint, RIGHTARG = int, FUNCTION = trap.big);
    CREATE OPERATOR trap.& (LEFTARG = bigint, RIGHTARG = int, FUNCTION = trap.big);
    CREATE OPERATOR trap.& (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.big8);
    CREATE DOMAIN trap.timestamptz AS pg_catalog.timestamptz CHECK (trap.caught());
    CREATE DOMAIN trap.bool AS pg_catalog.bool CHECK (trap.caught());
    CREATE DOMAIN trap.boolean AS pg_catalog.bool CHECK (trap.caught());
    CREATE FUNCTION trap.clock_timestamp() RETURNS pg_catalog.timestamptz LANGUAGE sql AS
      'SELECT trap.caught(); SELECT pg_catalog.now()';
    CREATE FUNCTION trap.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT trap.caught(); SELECT 1::bigint';
    CREATE FUNCTION trap.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT trap.caught()';
    CREATE FUNCTION trap.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql AS
      'SELECT trap.caught(); SELECT 1::bigint';
    CREATE TABLE trap.inserted (id bigint);)");
  session.exec(
      "INSERT INTO spillway.events (type, priority, stream, execute_at) VALUES ('A', 0, NULL, "
      "pg_catalog.now()), ('A', 5, 's', pg_catalog.now()), ('A', 0, 's', 'infinity')");
  session.exec("RESET ROLE; SET search_path = public");
  EXPECT_EQ(session.exec("SELECT count(*) FROM trap.seen").integer(0, 0), 0);
  EXPECT_EQ(
      database.value(
          "SELECT concat_ws(' ', (SELECT count(*) FROM spillway.queue), (SELECT count(*) FROM "
          "spillway.ranked), (SELECT count(*) FROM spillway.scheduled))"),
      "1 1 1");
  session.exec("DROP OWNED BY " + role + " CASCADE");
  session.exec("DROP ROLE " + role);
}

TEST(Schema, TheTriggerNotifiesOnlyWhileSomebodySleeps) {
  Database database;
  int heard = 0;
  bool marked = false;
  PgConnection listener(database.target());
  listener.listen("spillway_events", [&] { ++heard; });
  listener.listen("mark", [&] { marked = true; });
  const auto notified = [&](const char* sql) {
    heard = 0;
    database.query(sql);
    // A second notification marks the end: they arrive in the order of the commits.
    marked = false;
    database.query("NOTIFY mark");
    EXPECT_TRUE(test::eventually([&] {
      listener.poll_notifications();
      return marked;
    }));
    return heard;
  };
  database.query("SELECT setval('spillway.armed', 4102444800000)");
  EXPECT_EQ(notified("INSERT INTO spillway.events (type) VALUES ('A')"), 1);
  EXPECT_EQ(notified("INSERT INTO spillway.events (type) SELECT 'A' WHERE false"), 0);
  EXPECT_EQ(
      notified(
          "INSERT INTO spillway.events (type, execute_at) VALUES ('A', now() + interval '1 hour')"),
      1);
  database.query("SELECT setval('spillway.armed', 0)");
  EXPECT_EQ(notified("INSERT INTO spillway.events (type) VALUES ('A')"), 0);
  const auto armed_for = [&](int milliseconds) {
    database.query(
        "SELECT setval('spillway.armed', (1000 * extract(epoch FROM clock_timestamp()))::bigint "
        "+ " +
        std::to_string(milliseconds) + ")");
  };
  armed_for(60'000);
  EXPECT_EQ(notified("INSERT INTO spillway.events (type) VALUES ('A')"), 1);
  armed_for(-1);
  EXPECT_EQ(notified("INSERT INTO spillway.events (type) VALUES ('A')"), 0) << "its time is over";
}

TEST(Schema, EventsOfAStreamShareALaneAndLanesAreUsedEvenly) {
  Database database;
  EXPECT_EQ(
      database.number(
          "SELECT count(DISTINCT spillway.lane_of('item:1', g)) FROM generate_series(1, 100) g"),
      1);
  EXPECT_EQ(database.number(
                "SELECT count(DISTINCT spillway.lane_of(NULL, g)) FROM generate_series(1, 100) g"),
            8);
  EXPECT_EQ(database.number("SELECT count(DISTINCT spillway.lane_of('item:' || g, 1)) FROM "
                            "generate_series(1, 200) g"),
            8);
  EXPECT_EQ(database.number("SELECT count(*) FROM generate_series(1, 1000) g WHERE "
                            "spillway.lane_of('i' || g, 1) NOT BETWEEN 0 AND 7"),
            0);
}

}  // namespace
}  // namespace spillway
