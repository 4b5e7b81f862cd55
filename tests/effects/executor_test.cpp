#include "effects/executor.hpp"

#include <gtest/gtest.h>

#include <random>

#include "effects/effect_error.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class ExecutorTest : public testing::Test {
 protected:
  void apply(const std::vector<Effects>& events) {
    std::vector<CompiledEffects> compiled;
    for (const auto& effects : events) compiled.push_back(executor.compile(effects));
    std::vector<const CompiledEffects*> pointers;
    for (const auto& one : compiled) pointers.push_back(&one);
    executor.apply(pointers);
  }

  std::string compile_error(const Effects& effects) {
    try {
      static_cast<void>(executor.compile(effects));
    } catch (const EffectError& error) {
      return error.what();
    }
    return "no error";
  }

  Database database;
  PgConnection session{database.target()};
  Executor executor{session};
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
            "effect 0 (SSEBroadcast), field \"channel\": contains a control character (line break, "
            "NUL …)");
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
  const auto compiled = executor.compile({Insert{"t", {{"a", 1}}}, Insert{"t", {{"a", -1}}}});
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

// A batch leaves the same rows as its events one by one: random lists over tables with a foreign
// key, a unique key, serials and a trigger that looks at another table.
TEST_F(ExecutorTest, GroupedLeavesTheRowsOfOneByOne) {
  const std::string schema = R"(
    CREATE TABLE %s_parent (id int PRIMARY KEY, n serial);
    CREATE TABLE %s_child (parent int REFERENCES %s_parent, v int, n serial);
    CREATE TABLE %s_free (v int, w int DEFAULT 5, n serial);
    CREATE TABLE %s_seen (v int UNIQUE, parents int);
    CREATE FUNCTION %s_count() RETURNS trigger LANGUAGE plpgsql AS
      $$BEGIN NEW.parents := (SELECT count(*) FROM %s_parent); RETURN NEW; END$$;
    CREATE TRIGGER count BEFORE INSERT ON %s_seen FOR EACH ROW EXECUTE FUNCTION %s_count();)";
  for (unsigned seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto pick = [&](int below) {
      return static_cast<int>(random() % static_cast<unsigned>(below));
    };
    for (const std::string prefix : {"g", "o"}) {
      std::string sql =
          "DROP TABLE IF EXISTS %s_child, %s_parent, %s_free, %s_seen;"
          "DROP FUNCTION IF EXISTS %s_count();" +
          schema;
      for (std::size_t at = 0; (at = sql.find("%s", at)) != std::string::npos;)
        sql.replace(at, 2, prefix);
      session.exec(sql);
    }
    executor.forget_schema();
    int parents = 0;
    std::vector<std::vector<json>> events;  // effects without the table's prefix
    for (int e = 0; e < 40; ++e) {
      std::vector<json> effects;
      for (int k = pick(4); k >= 0; --k) {
        switch (pick(4)) {
          case 0:
            effects.push_back({{"t", "_parent"}, {"d", {{"id", ++parents}}}});
            break;
          case 1:
            if (parents > 0)
              effects.push_back(
                  {{"t", "_child"}, {"d", {{"parent", 1 + pick(parents)}, {"v", e}}}});
            break;
          case 2:
            effects.push_back(
                {{"t", "_free"}, {"d", pick(2) ? json{{"v", e}} : json{{"v", e}, {"w", k}}}});
            break;
          default:
            effects.push_back({{"t", "_seen"}, {"d", {{"v", pick(30)}}}, {"ignore", true}});
            break;
        }
      }
      events.push_back(effects);
    }
    const auto with_prefix = [&](const std::string& prefix) {
      std::vector<Effects> lists;
      for (const auto& effects : events) {
        Effects list;
        for (const auto& effect : effects)
          list.push_back(
              Insert{prefix + effect["t"].get<std::string>(), effect["d"],
                     effect.contains("ignore") ? OnConflict::ignore : OnConflict::error});
        lists.push_back(list);
      }
      return lists;
    };
    apply(with_prefix("g"));
    for (const auto& effects : with_prefix("o")) executor.apply_each(executor.compile(effects));
    for (const std::string table : {"_parent", "_child", "_free", "_seen"})
      EXPECT_EQ(
          database.number("SELECT count(*) FROM ((TABLE g" + table + " EXCEPT ALL TABLE o" + table +
                          ") UNION ALL (TABLE o" + table + " EXCEPT ALL TABLE g" + table + ")) d"),
          0)
          << table;
    EXPECT_GT(database.number("SELECT count(*) FROM g_free"), 0);
  }
}

}  // namespace
}  // namespace spillway
