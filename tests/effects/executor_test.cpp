#include "effects/executor.hpp"

#include <gtest/gtest.h>

#include <random>

#include "effects/effect_error.hpp"
#include "processor/pg_pipeline.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class ExecutorTest : public testing::Test {
 protected:
  void apply(const std::vector<Effects>& events) {
    std::vector<CompiledEffects> compiled;
    for (const auto& effects : events) compiled.push_back(executor.compile(effects, origin));
    std::vector<const CompiledEffects*> pointers;
    for (const auto& one : compiled) pointers.push_back(&one);
    executor.apply(pointers);
    session.finish();
  }

  std::string compile_error(const Effects& effects) {
    try {
      static_cast<void>(executor.compile(effects, origin));
    } catch (const EffectError& error) {
      return error.what();
    }
    return "no error";
  }

  Database database;
  PgPipeline session{database.target()};
  Executor executor{session};
  EffectOrigin origin{42, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"};
};

TEST_F(ExecutorTest, PostgreSQLConvertsEveryType) {
  database.query(
      "CREATE TABLE t (i bigint, n numeric, b bool, d timestamptz, j jsonb, a int[], x text, u "
      "uuid,"
      " e text DEFAULT 'default')");
  apply({{Insert{"t",
                 {{"i", 9007199254740993},
                  {"n", 1.5},
                  {"b", true},
                  {"d", "2026-01-02T03:04:05Z"},
                  {"j", {{"k", {1, 2}}}},
                  {"a", {1, 2, 3}},
                  {"x", "it's \"quoted\" \\ 日本\n"},
                  {"u", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}}}}});
  const Rows rows = session.exec("SELECT i, n, b, d, j->'k'->>1, a[3], x, u, e FROM t");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows.text(0, 0), "9007199254740993");
  EXPECT_EQ(rows.text(0, 1), "1.5");
  EXPECT_EQ(rows.text(0, 2), "t");
  EXPECT_EQ(rows.text(0, 3), "2026-01-02 03:04:05+00");
  EXPECT_EQ(rows.text(0, 4), "2");
  EXPECT_EQ(rows.text(0, 5), "3");
  EXPECT_EQ(rows.text(0, 6), "it's \"quoted\" \\ 日本\n");
  EXPECT_EQ(rows.text(0, 7), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  EXPECT_EQ(rows.text(0, 8), "default");
}

// Plain rows travel as arrays of text, the others as JSON: what comes of a value, or is said of it,
// must not depend on that.
TEST_F(ExecutorTest, ValuesComeToTheSameAsByJson) {
  const std::vector<json> values{nullptr,
                                 true,
                                 false,
                                 0,
                                 -7,
                                 32768,
                                 2147483648,
                                 9223372036854775807,
                                 18446744073709551615ull,
                                 "",
                                 " ",
                                 "x",
                                 "abc  ",
                                 "abcdef",
                                 "12",
                                 " 12 ",
                                 "1e3",
                                 "0x10",
                                 "1.55",
                                 "-0",
                                 "NaN",
                                 "Infinity",
                                 "yes",
                                 "t",
                                 "NULL",
                                 "null",
                                 "{}",
                                 "{1,2}",
                                 "\"q\"",
                                 "a\\b",
                                 "日本",
                                 "2026-01-02T03:04:05Z",
                                 "2026-01-02 03:04:05.6789+02",
                                 "2026-02-30",
                                 "infinity",
                                 "24:00:00",
                                 "25:00",
                                 "epoch",
                                 "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                                 "10.0.0.1",
                                 "10.0.0.1/8",
                                 std::string(300, '9')};
  const std::vector<std::string> types{
      "text", "varchar", "varchar(3)", "bigint", "integer", "smallint", "boolean", "real",
      "double precision", "numeric", "numeric(4,1)", "uuid", "date", "timestamptz", "timestamp",
      "time", "inet",
      // these go by JSON either way
      "char(3)", "timestamptz(0)", "interval", "jsonb", "text[]", "bytea"};
  for (const std::string& type : types) {
    database.query("CREATE TABLE t (v " + type +
                   " CHECK (v::text <> 'x'), n int NOT NULL DEFAULT 0)");
    for (const json& value : values) {
      const auto result_of = [&](auto&& insert) -> std::string {
        session.exec("BEGIN");
        std::string result;
        try {
          insert();
          const Rows rows = session.exec("SELECT v, v::text FROM t");
          result = rows.is_null(0, 0) ? "null" : "is " + rows.string(0, 0);
        } catch (const SqlError& error) {
          result = error.sqlstate() + " " + error.what();
        }
        session.exec("ROLLBACK");
        return result;
      };
      const std::string by_effect = result_of([&] { apply({{Insert{"t", {{"v", value}}}}}); });
      const std::string array = json::array({{{"v", value}}}).dump();
      const std::string by_json = result_of([&] {
        session.run(
            {"", "INSERT INTO t (v) SELECT v FROM jsonb_populate_recordset(NULL::t, $1::jsonb)"},
            {array.c_str()});
      });
      EXPECT_EQ(by_effect, by_json) << type << " " << value.dump();
    }
    database.query("DROP TABLE t");
    executor.forget_schema();
  }
}

TEST_F(ExecutorTest, AbsentColumnsGetTheirDefaultAndNullIsNull) {
  database.query("CREATE TABLE t (a int DEFAULT 7, b int DEFAULT 8)");
  apply({{Insert{"t", json::array({{{"a", 1}}, {{"a", nullptr}, {"b", 2}}, json::object()})}}});
  const Rows rows = session.exec("SELECT coalesce(a::text, 'null'), b FROM t ORDER BY ctid");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows.text(0, 0), "1");
  EXPECT_EQ(rows.text(0, 1), "8");
  EXPECT_EQ(rows.text(1, 0), "null");
  EXPECT_EQ(rows.text(1, 1), "2");
  EXPECT_EQ(rows.text(2, 0), "7");
  EXPECT_EQ(rows.text(2, 1), "8");
}

TEST_F(ExecutorTest, ConflictsAreIgnoredOnlyWhenAsked) {
  database.query("CREATE TABLE t (k int PRIMARY KEY)");
  apply({{Insert{"t", {{"k", 1}}}}, {Insert{"t", {{"k", 1}}, OnConflict::ignore}}});
  EXPECT_EQ(database.number("SELECT count(*) FROM t"), 1);
  try {
    apply({{Insert{"t", {{"k", 1}}}}});
    FAIL() << "a duplicate key was taken";
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "23505");
  }
}

TEST_F(ExecutorTest, NamesFromPayloadsAreQuoted) {
  database.query(R"(CREATE TABLE "odd ""table""" ("select" int, "; drop table x; --" int))");
  apply({{Insert{"odd \"table\"", {{"select", 1}, {"; drop table x; --", 2}}}}});
  EXPECT_EQ(database.number(R"(SELECT "select" + "; drop table x; --" FROM "odd ""table""")"), 3);
}

TEST_F(ExecutorTest, WrongTargetsAreNamed) {
  database.query("CREATE TABLE t (a int, b int)");
  EXPECT_EQ(compile_error({Insert{"nothere", {{"a", 1}}}}),
            "effect 0 (Insert), field \"table\": there is no table \"nothere\"");
  EXPECT_EQ(compile_error({SSEBroadcast{"c", "e", 1}, Insert{"t", {{"c", 1}}}}),
            "effect 1 (Insert), field \"data\": table \"t\" has no column \"c\"; it has a, b");
  EXPECT_EQ(
      compile_error({Insert{"spillway.events", {{"type", "x"}}}}),
      "effect 0 (Insert), field \"table\": \"spillway.events\" names schema \"spillway\", which no "
      "effect may write to");
  EXPECT_EQ(
      compile_error({Insert{"pg_catalog.pg_class", {{"relname", "x"}}}}),
      "effect 0 (Insert), field \"table\": \"pg_catalog.pg_class\" names schema \"pg_catalog\", "
      "which no effect may write to");
  EXPECT_EQ(compile_error({Insert{"t", 7}}),
            "effect 0 (Insert), field \"data\": must be an object of columns or an array of such "
            "objects, not number");
  EXPECT_EQ(compile_error({Insert{"t", json::array({{{"a", 1}}, "x"})}}),
            "effect 0 (Insert), field \"data[1]\": must be an object of columns, not string");
  EXPECT_EQ(compile_error({Insert{"t", {{"a", "\xff"}}}}),
            "effect 0 (Insert), field \"data\": contains text that is not valid UTF-8");
  EXPECT_EQ(compile_error({SSEBroadcast{"a\nb", "e", 1}}),
            "effect 0 (SSEBroadcast), field \"channel\": contains a control character, such as "
            "a line break");
  EXPECT_EQ(compile_error({SSEBroadcast{"Room:*", "e", 1}}),
            "effect 0 (SSEBroadcast), field \"channel\": is a pattern, which only subscribers can "
            "name; write one channel's name, such as CommentStream:item:42");
}

TEST_F(ExecutorTest, ANameThatLooksLikeTwoIsNotTakenForThem) {
  database.query("CREATE TABLE t (a int, b int)");
  apply({{Insert{"t", {{"a", 1}, {"b", 2}}}}});
  for (const std::string& between :
       {std::string("\1"), std::string("\0", 1), std::string("\0\1", 2), std::string("c1:")})
    EXPECT_NE(compile_error({Insert{"t", {{"a" + between + "b", 1}}}}), "no error");
  EXPECT_EQ(database.number("SELECT count(*) FROM t"), 1);
}

TEST_F(ExecutorTest, ADeepValueIsAnErrorNotACrash) {
  database.query("CREATE TABLE t (a jsonb)");
  json deep = 1;
  for (int i = 0; i < 5000; ++i) deep = json::array({std::move(deep)});
  EXPECT_EQ(compile_error({SSEBroadcast{"c", "e", deep}}),
            "effect 0 (SSEBroadcast), field \"data\": is nested more than 1000 levels deep");
  EXPECT_EQ(compile_error({Insert{"t", {{"a", deep}}}}),
            "effect 0 (Insert), field \"data\": is nested more than 1000 levels deep");
}

TEST_F(ExecutorTest, AReservedTableIsRefusedAlsoByWayOfTheSearchPath) {
  session.exec("SET search_path = spillway, public");
  EXPECT_EQ(
      compile_error({Insert{"dead_letters", {{"event_id", 1}}}}),
      "effect 0 (Insert), field \"table\": \"dead_letters\" is a table of schema \"spillway\", "
      "which no effect may write to");
  EXPECT_EQ(compile_error({Insert{"pg_class", {{"relname", "x"}}}}),
            "effect 0 (Insert), field \"table\": \"pg_class\" is a table of schema \"pg_catalog\", "
            "which no effect may write to");
}

TEST_F(ExecutorTest, AColumnAddedLaterIsFound) {
  database.query("CREATE TABLE t (a int)");
  apply({{Insert{"t", {{"a", 1}}}}});
  database.query("ALTER TABLE t ADD COLUMN b int");
  apply({{Insert{"t", {{"a", 2}, {"b", 3}}}}});
  EXPECT_EQ(database.number("SELECT b FROM t WHERE a = 2"), 3);
}

TEST_F(ExecutorTest, ErrorsOfSingleEffectsNameTheEffect) {
  database.query("CREATE TABLE t (a int CHECK (a > 0))");
  const auto compiled =
      executor.compile({Insert{"t", {{"a", 1}}}, Insert{"t", {{"a", -1}}}}, origin);
  try {
    executor.apply_each(compiled);
    FAIL() << "the check was passed";
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "23514");
    EXPECT_EQ(std::string(error.what()).substr(0, 29), "effect 1 (Insert into t): new");
  }
}

TEST_F(ExecutorTest, MoreColumnSetsThanAreRemembered) {
  std::string columns;
  for (int i = 0; i < 10; ++i) columns += (i ? ", c" : "c") + std::to_string(i) + " int";
  database.query("CREATE TABLE t (" + columns + ")");
  int rows = 0;
  for (int mask = 1; mask < 1000; ++mask) {
    json row = json::object();
    for (int bit = 0; bit < 10; ++bit)
      if (mask & (1 << bit)) row["c" + std::to_string(bit)] = mask;
    apply({{Insert{"t", row}}});
    ++rows;
  }
  EXPECT_EQ(database.number("SELECT count(*) FROM t"), rows);
}

TEST_F(ExecutorTest, UpsertSetsTheOtherColumnsOfARowThatIsThere) {
  database.query("CREATE TABLE t (k int PRIMARY KEY, v int, w int DEFAULT 9)");
  apply({{Upsert{"t", {{"k", 1}, {"v", 1}}, {"k"}}, Upsert{"t", {{"k", 2}, {"v", 2}}, {"k"}}},
         {Upsert{"t", json::array({{{"k", 1}, {"v", 3}}, {{"k", "1"}, {"w", 4}}}), {"k"}}},
         {Upsert{"t", {{"k", 2}}, {"k"}}}});
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws(',', k, v, w), ' ' ORDER BY k) FROM t"),
            "1,3,4 2,2,9");
}

TEST_F(ExecutorTest, UpdateAndDeleteTakeEveryRowThatEqualsAllOfWhere) {
  database.query(
      "CREATE TABLE t (k int PRIMARY KEY, v text, w jsonb);"
      "INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'b'), (4, NULL), (5, 'c')");
  apply({{Update{"t", {{"w", {{"x", 1}}}}, {{"v", "a"}}}},
         {Update{"t", {{"w", 7}}, {{"v", nullptr}}},
          Update{"t", {{"v", nullptr}}, {{"k", 3}, {"v", "b"}}}},
         {Delete{"t", {{"k", 5}}}, Delete{"t", {{"k", 1}, {"v", "b"}}}}});
  EXPECT_EQ(database.value(
                "SELECT string_agg(concat_ws(',', k, coalesce(v, '-'), w), ' ' ORDER BY k) FROM t"),
            "1,a,{\"x\": 1} 2,a,{\"x\": 1} 3,- 4,-,7");
}

TEST_F(ExecutorTest, UpdatesOfOneRowKeepTheirOrder) {
  database.query("CREATE TABLE t (k int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)");
  apply({{Update{"t", {{"v", 1}}, {{"k", 1}}}},
         {Update{"t", {{"v", 5}}, {{"k", 2}}}},
         {Update{"t", {{"v", 2}}, {{"k", 1}}}},
         {Update{"t", {{"v", 3}}, {{"k", "1"}}}},  // another spelling of the same row
         {Update{"t", {{"k", 7}}, {{"k", 2}}}},
         {Update{"t", {{"v", 6}}, {{"k", 7}}}}});
  EXPECT_EQ(database.value("SELECT string_agg(k || ':' || v, ' ' ORDER BY k) FROM t"), "1:3 7:6");
}

TEST_F(ExecutorTest, WhatWouldHitEveryRowIsRefused) {
  database.query("CREATE TABLE t (a int)");
  EXPECT_EQ(compile_error({Delete{"t", json::object()}}),
            "effect 0 (Delete), field \"where\": is empty; name at least one column");
  EXPECT_EQ(compile_error({Update{"t", {{"a", 1}}, json::object()}}),
            "effect 0 (Update), field \"where\": is empty; name at least one column");
  EXPECT_EQ(compile_error({Update{"t", json::object(), {{"a", 1}}}}),
            "effect 0 (Update), field \"set\": is empty; name at least one column");
  EXPECT_EQ(compile_error({Delete{"t", "a = 1"}}),
            "effect 0 (Delete), field \"where\": must be an object of columns, not string");
  EXPECT_EQ(compile_error({Update{"t", {{"a", 1}}, {{"b", 1}}}}),
            "effect 0 (Update), field \"where\": table \"t\" has no column \"b\"; it has a");
  EXPECT_EQ(compile_error({Upsert{"t", {{"a", 1}}, {"b"}}}),
            "effect 0 (Upsert), field \"key\": column \"b\" is not in data");
  EXPECT_EQ(compile_error({Upsert{"t", {{"a", 1}}, {}}}),
            "effect 0 (Upsert), field \"key\": is empty; name the columns of a unique index");
}

TEST_F(ExecutorTest, ScheduledEventsCarryCorrelationAndCausation) {
  apply({{ScheduleEvent{"A", {{"x", 1}}},
          ScheduleEvent{.event_type = "B", .delay_minutes = 1.5, .stream = "s"},
          ScheduleEvent{
              .event_type = "C", .execute_at = "2099-01-01T00:00:00Z", .idempotency_key = "k"}},
         {ScheduleEvent{.event_type = "D", .idempotency_key = "k"}}});
  EXPECT_EQ(
      database.value(
          "SELECT string_agg(concat_ws('|', type, payload, stream, causation_id, idempotency_key,"
          " round(extract(epoch FROM least(execute_at, now() + interval '1 day') - created_at))), "
          "' ' ORDER BY id)"
          " FROM spillway.events WHERE correlation_id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
      "A|{\"x\": 1}|42|0 B|{}|s|42|90 C|{}|42|k|86400");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 1);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.scheduled"), 2);
  EXPECT_EQ(compile_error({ScheduleEvent{.event_type = ""}}),
            "effect 0 (ScheduleEvent), field \"event_type\": is empty");
  EXPECT_EQ(
      compile_error({ScheduleEvent{.event_type = "A", .delay_seconds = 1, .delay_minutes = 1}}),
      "effect 0 (ScheduleEvent): give one of delay_seconds, delay_minutes and execute_at");
  EXPECT_EQ(
      compile_error({ScheduleEvent{.event_type = "A", .delay_seconds = -1}}),
      "effect 0 (ScheduleEvent), field \"delay_seconds\": must be between 0 and about 300 years");
}

TEST_F(ExecutorTest, AWrongTimeIsSaidByPostgreSQLAndNamesTheEffect) {
  const auto compiled =
      executor.compile({ScheduleEvent{.event_type = "A", .execute_at = "soon"}}, origin);
  try {
    executor.apply_each(compiled);
    FAIL();
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "22007");
    EXPECT_EQ(std::string(error.what()).substr(0, 25), "effect 0 (ScheduleEvent):");
  }
}

TEST_F(ExecutorTest, TheLastOnAKeyWins) {
  apply({{KVSet{"a", 1}, KVSet{"b", nullptr, 60}},
         {KVSet{"a", {{"x", 2}}}, KVDelete{"c"}},
         {KVSet{"d", 4}}});
  EXPECT_EQ(
      database.value("SELECT string_agg(key || '=' || value, ' ' ORDER BY key) FROM spillway.kv"),
      "a={\"x\": 2} b=null d=4");
  EXPECT_EQ(
      database.number(
          "SELECT round(extract(epoch FROM expires_at - now())) FROM spillway.kv WHERE key = 'b'"),
      60);
  apply({{KVDelete{"a"}, KVSet{"b", 1}}, {KVSet{"d", 5}, KVDelete{"d"}}});
  EXPECT_EQ(database.value("SELECT string_agg(key || '=' || value || (expires_at IS NULL), ' ' "
                           "ORDER BY key) FROM spillway.kv"),
            "b=1true");
  EXPECT_EQ(compile_error({KVSet{"", 1}}),
            "effect 0 (KVSet), field \"key\": must have 1 to 1024 bytes");
  EXPECT_EQ(
      compile_error({KVSet{"a", 1, 0}}),
      "effect 0 (KVSet), field \"ttl_seconds\": must be more than 0 and at most about 300 years");
}

TEST_F(ExecutorTest, LogsAreCheckedAndKeptForLater) {
  const auto compiled = executor.compile({Log{"info", "hello", {{"a", 1}}}}, origin);
  EXPECT_TRUE(compiled.writes.empty());
  EXPECT_EQ(compiled.logs, (std::vector<Log>{Log{"info", "hello", {{"a", 1}}}}));
  EXPECT_EQ(compile_error({Log{"loud", "x"}}),
            "effect 0 (Log), field \"level\": must be trace, debug, info, warning, error or "
            "critical, not \"loud\"");
  EXPECT_EQ(compile_error({Log{"info", "x", 7}}),
            "effect 0 (Log), field \"fields\": must be an object, not number");
}

// A batch leaves the same rows as its events one by one: random lists of every table effect over
// tables with foreign keys (one cascading), unique keys, checks, serials, defaults and a trigger
// that looks at another table. Where the group is refused, its events one by one must meet an error
// too.
TEST_F(ExecutorTest, GroupedLeavesTheRowsOfOneByOne) {
  const std::string schema = R"(
    CREATE TABLE %s_parent (id int PRIMARY KEY, v int, n serial);
    CREATE TABLE %s_child (k int PRIMARY KEY, parent int REFERENCES %s_parent ON DELETE CASCADE, v int, n serial);
    CREATE TABLE %s_leaf (child int REFERENCES %s_child ON DELETE CASCADE, v int CHECK (v <> 99));
    CREATE TABLE %s_free (k int, v int, w int DEFAULT 5, n serial, t text UNIQUE NOT NULL);
    CREATE TABLE %s_seen (v int UNIQUE, parents int);
    CREATE FUNCTION %s_count() RETURNS trigger LANGUAGE plpgsql AS
      $$BEGIN NEW.parents := (SELECT count(*) FROM %s_parent); RETURN NEW; END$$;
    CREATE TRIGGER count BEFORE INSERT ON %s_seen FOR EACH ROW EXECUTE FUNCTION %s_count();)";
  const std::vector<std::string> tables{"_parent", "_child", "_leaf", "_free", "_seen"};
  int compared = 0, refused = 0;
  for (unsigned seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto pick = [&](int below) {
      return static_cast<int>(random() % static_cast<unsigned>(below));
    };
    for (const std::string prefix : {"g", "o"}) {
      std::string sql =
          "DROP TABLE IF EXISTS %s_leaf, %s_child, %s_parent, %s_free, %s_seen;"
          "DROP FUNCTION IF EXISTS %s_count();" +
          schema;
      for (std::size_t at = 0; (at = sql.find("%s", at)) != std::string::npos;)
        sql.replace(at, 2, prefix);
      session.exec(sql);
    }
    executor.forget_schema();
    const bool daring = seed % 3 == 0;  // may violate constraints
    int parents = 0, children = 0, texts = 0;
    const auto random_effect = [&](const std::string& p) -> Effect {
      switch (pick(12)) {
        case 0:
          return Insert{p + "_parent", {{"id", ++parents}, {"v", pick(5)}}};
        case 1:
          if (parents == 0 && !daring) return KVSet{p + std::to_string(pick(3)), pick(9)};
          return Insert{p + "_child",
                        {{"k", ++children},
                         {"parent", daring ? json(1 + pick(parents + 1)) : json(nullptr)},
                         {"v", pick(4)}}};
        case 2:
          return Insert{p + "_free",
                        {{"k", pick(6)}, {"v", pick(9)}, {"t", std::to_string(++texts)}}};
        case 3:
          return Insert{
              p + "_free",
              {{"k", pick(6)}, {"w", pick(9)}, {"t", std::to_string(daring ? pick(40) : ++texts)}}};
        case 4:
          return Insert{p + "_seen", {{"v", pick(30)}}, OnConflict::ignore};
        case 5:
          return Upsert{p + "_parent",
                        {{"id", daring ? 1 + pick(parents + 1) : 1000 + pick(8)}, {"v", pick(9)}},
                        {"id"}};
        case 6:
          return Upsert{p + "_seen", {{"v", pick(30)}}, {"v"}};
        case 7:
          return Update{
              p + "_free", {{"v", pick(99)}}, {{"t", std::to_string(1 + pick(texts + 1))}}};
        case 8:
          return Update{p + "_free", {{"k", pick(6)}, {"w", nullptr}}, {{"k", pick(6)}}};
        case 9:
          return Update{p + "_parent",
                        {{"v", pick(9)}},
                        {{"id", pick(2) ? 1 + pick(parents + 1) : 1000 + pick(8)}}};
        case 10:
          return pick(3) ? Effect(Delete{p + "_free", {{"k", pick(6)}, {"v", pick(9)}}})
                         : Effect(Delete{p + "_parent", {{"id", 1 + pick(parents + 1)}}});
        default:
          return Insert{p + "_leaf",
                        {{"child", daring ? json(1 + pick(children + 1)) : json(nullptr)},
                         {"v", daring ? 97 + pick(3) : 1}}};
      }
    };
    // The same choices for both tables: the generator is run twice from the same state.
    const auto lists = [&](const std::string& prefix) {
      random.seed(seed * 1000);
      parents = children = texts = 0;
      std::vector<Effects> events;
      for (int e = 0; e < 40; ++e) {
        Effects effects;
        for (int k = pick(4); k >= 0; --k) effects.push_back(random_effect(prefix));
        events.push_back(std::move(effects));
      }
      return events;
    };
    bool grouped_failed = false, naive_failed = false;
    session.exec("BEGIN");
    try {
      apply(lists("g"));
      session.exec("COMMIT");
    } catch (const SqlError&) {
      grouped_failed = true;
      session.exec("ROLLBACK");
    }
    session.exec("BEGIN");
    try {
      for (const auto& effects : lists("o")) executor.apply_each(executor.compile(effects, origin));
      session.exec("COMMIT");
    } catch (const SqlError&) {
      naive_failed = true;
      session.exec("ROLLBACK");
    }
    // A group may be refused for its grouping alone (then it is bisected), never taken wrongly.
    EXPECT_TRUE(grouped_failed || !naive_failed);
    if (grouped_failed || naive_failed) {
      ++refused;
      continue;
    }
    ++compared;
    for (const std::string& table : tables)
      EXPECT_EQ(
          database.number("SELECT count(*) FROM ((TABLE g" + table + " EXCEPT ALL TABLE o" + table +
                          ") UNION ALL (TABLE o" + table + " EXCEPT ALL TABLE g" + table + ")) d"),
          0)
          << table;
    EXPECT_EQ(
        database.number(
            "SELECT count(*) FROM spillway.kv a WHERE key LIKE 'g%' AND NOT EXISTS (SELECT FROM"
            " spillway.kv b WHERE b.key = 'o' || substr(a.key, 2) AND b.value = a.value)"),
        0);
  }
  EXPECT_GE(compared, 100);
  EXPECT_GE(refused, 10);
}

TEST_F(ExecutorTest, AWebhookIsWrittenDownToBeSentLater) {
  apply({{TriggerWebhook{"https://Hooks.Example:8443/a?b=1", {{"x", 1}}, {{"X-A", "1"}}, "mail"},
          TriggerWebhook{"http://[2001:db8::1]", nullptr}}});
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws(' ', event_id, correlation_id, name, url,"
                           " host, payload, headers, status, attempts, next_attempt_at <= now()),"
                           " '; ' ORDER BY name DESC) FROM spillway.webhooks"),
            "42 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 mail https://Hooks.Example:8443/a?b=1"
            " hooks.example {\"x\": 1} {\"X-A\": \"1\"} pending 0 t; "
            "42 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11  http://[2001:db8::1] 2001:db8::1 null {}"
            " pending 0 t");
}

TEST_F(ExecutorTest, WrongWebhooksSayWhatIsWrong) {
  EXPECT_EQ(compile_error({TriggerWebhook{"ftp://a/"}}),
            "effect 0 (TriggerWebhook), field \"url\": must begin with http:// or https://");
  EXPECT_EQ(compile_error({TriggerWebhook{"http://a/", 1, {{"Host", "b"}}}}),
            "effect 0 (TriggerWebhook), field \"headers\": may not set Host, which the sender sets "
            "or leaves out");
  EXPECT_EQ(compile_error({TriggerWebhook{"http://a/", "\xff"}}),
            "effect 0 (TriggerWebhook), field \"payload\": contains text that is not valid UTF-8");
  EXPECT_EQ(compile_error({TriggerWebhook{"http://a/", 1, {}, "\xff"}}),
            "effect 0 (TriggerWebhook), field \"name\": must be at most 255 bytes of UTF-8");
}

}  // namespace
}  // namespace spillway
