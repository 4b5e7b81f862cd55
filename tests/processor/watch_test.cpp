// spillway.watch(): which events row changes become, statement by statement, through real triggers.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/support/database.hpp"
#include "tests/support/process.hpp"

namespace spillway {
namespace {

using test::Database;

struct Refusal {
  std::string sqlstate;
  std::string message;
};

class Watch : public testing::Test {
 protected:
  Watch() {
    // Counts the statements that insert events.
    database.query(
        "CREATE TABLE public.event_inserts (events bigint);"
        "CREATE FUNCTION public.count_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$BEGIN INSERT INTO public.event_inserts SELECT count(*) FROM added; RETURN NULL; END$$;"
        "CREATE TRIGGER count_insert AFTER INSERT ON spillway.events REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION public.count_insert()");
  }

  void run(const std::string& sql) { database.query(sql); }

  // The events since the last call, "op before after", one per line; `with` adds columns.
  std::string news(const std::string& with = "") {
    const std::string text = database.value(
        "SELECT string_agg(concat_ws(' ', payload ->> 'op', payload -> 'before', payload -> "
        "'after'" +
        (with.empty() ? "" : ", " + with) +
        "), E'\\n' ORDER BY id) FROM spillway.events WHERE id > " + std::to_string(seen_));
    seen_ = database.number("SELECT coalesce(max(id), 0) FROM spillway.events");
    return text;
  }

  // What a statement costs: "INSERTs into events that held any / events".
  std::string cost(const std::string& sql) {
    run("TRUNCATE public.event_inserts");
    run(sql);
    news();
    return database.value(
        "SELECT concat(count(*), '/', coalesce(sum(events), 0)) FROM public.event_inserts"
        " WHERE events > 0");
  }

  Refusal refusal(const std::string& sql) { return refusal(*connect(), sql); }
  static Refusal refusal(PgConnection& session, const std::string& sql) {
    try {
      session.exec(sql);
    } catch (const SqlError& error) {
      return {error.sqlstate(), error.what()};
    }
    return {};
  }

  std::unique_ptr<PgConnection> connect() {
    return std::make_unique<PgConnection>(database.target());
  }

  Database database;
  long long seen_ = 0;
};

TEST_F(Watch, MakesEveryChangeAnEvent) {
  run("CREATE TABLE items (id int PRIMARY KEY, name text)");
  run("SELECT spillway.watch('items')");
  run("INSERT INTO items VALUES (1, 'a'), (2, 'b')");
  EXPECT_EQ(news("type"),
            "insert null {\"id\": 1, \"name\": \"a\"} RowChanged\n"
            "insert null {\"id\": 2, \"name\": \"b\"} RowChanged");
  run("UPDATE items SET name = 'c' WHERE id = 1");
  EXPECT_EQ(news(), "update {\"id\": 1, \"name\": \"a\"} {\"id\": 1, \"name\": \"c\"}");
  run("DELETE FROM items WHERE id = 2");
  EXPECT_EQ(news(), "delete {\"id\": 2, \"name\": \"b\"} null");
  run("TRUNCATE items");
  EXPECT_EQ(news("payload ->> 'table'"), "truncate null null items");
  run("INSERT INTO items SELECT 1, 'a' WHERE false");
  run("UPDATE items SET name = 'x'");
  run("DELETE FROM items");
  EXPECT_EQ(news(), "");
  EXPECT_EQ(database.value("SELECT string_agg(DISTINCT concat_ws(' ', stream IS NULL, priority,"
                           " max_attempts IS NULL, causation_id IS NULL), ';') ||"
                           " (count(DISTINCT correlation_id) = count(*)) FROM spillway.events"),
            "t 0 t ttrue");
  EXPECT_EQ(database.value("SELECT string_agg(k, ',' ORDER BY k) FROM (SELECT DISTINCT"
                           " jsonb_object_keys(payload) k FROM spillway.events) x"),
            "after,before,op,table");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"),
            database.number("SELECT count(*) FROM spillway.events"));
}

TEST_F(Watch, MakesNothingOfWhatIsRolledBack) {
  run("CREATE TABLE items (id int PRIMARY KEY)");
  run("SELECT spillway.watch('items')");
  run("BEGIN; INSERT INTO items VALUES (1); ROLLBACK");
  EXPECT_EQ(refusal("INSERT INTO items VALUES (2), (2)").sqlstate, "23505");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 0);
}

TEST_F(Watch, KeepsBulkStatementsBulk) {
  run("CREATE TABLE items (id int PRIMARY KEY, n int, note text DEFAULT 'x')");
  run("SELECT spillway.watch('items')");
  EXPECT_EQ(cost("INSERT INTO items (id, n) SELECT g, g FROM generate_series(1, 1000) g"),
            "1/1000");
  EXPECT_EQ(cost("COPY items (id) FROM PROGRAM 'seq 1001 2000'"), "1/1000");
  EXPECT_EQ(cost("UPDATE items SET n = -id WHERE id <= 1500"), "1/1500");
  EXPECT_EQ(cost("UPDATE items SET n = -id"), "1/500") << "1500 rows were so already";
  EXPECT_EQ(cost("DELETE FROM items WHERE id > 500"), "1/1500");
  EXPECT_EQ(cost("TRUNCATE items"), "1/1");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE payload ->> 'op' = 'update'"
                            " AND payload #> '{before,id}' = payload #> '{after,id}'"
                            " AND (payload #>> '{after,n}')::int = -(payload #>> '{after,id}')::int"
                            " AND payload #> '{before,n}' <> payload #> '{after,n}'"),
            2000);
}

// A plan that the session keeps from single rows would be quadratic for many.
TEST_F(Watch, TakesABulkStatementAfterManySmallOnes) {
  run("CREATE TABLE items (id int PRIMARY KEY, n int)");
  run("INSERT INTO items SELECT g, 0 FROM generate_series(1, 20000) g");
  run("SELECT spillway.watch('items')");
  for (int i = 1; i <= 20; ++i) run("UPDATE items SET n = 1 WHERE id = " + std::to_string(i));
  run("SET statement_timeout = '60s'");
  EXPECT_EQ(cost("UPDATE items SET n = 2"), "1/20000");
}

TEST_F(Watch, SeesBothSidesOfAnUpsert) {
  run("CREATE TABLE items (id int PRIMARY KEY, n int)");
  run("INSERT INTO items VALUES (2, 0), (4, 9)");
  run("SELECT spillway.watch('items')");
  run("INSERT INTO items VALUES (1, 1), (2, 2), (3, 3), (4, 9) ON CONFLICT (id) DO UPDATE SET n = "
      "excluded.n");
  EXPECT_EQ(news(),
            "update {\"n\": 0, \"id\": 2} {\"n\": 2, \"id\": 2}\n"
            "insert null {\"n\": 1, \"id\": 1}\n"
            "insert null {\"n\": 3, \"id\": 3}");
  run("INSERT INTO items VALUES (1, 7), (5, 5) ON CONFLICT DO NOTHING");
  EXPECT_EQ(news(), "insert null {\"n\": 5, \"id\": 5}");
}

TEST_F(Watch, SeesEverySideOfAMerge) {
  run("CREATE TABLE items (id int PRIMARY KEY, n int)");
  run("INSERT INTO items VALUES (1, 1), (2, 2), (3, 3)");
  run("SELECT spillway.watch('items')");
  EXPECT_EQ(cost("MERGE INTO items USING generate_series(1, 5) AS s (id) ON s.id = items.id"
                 " WHEN MATCHED AND s.id = 2 THEN DELETE"
                 " WHEN MATCHED THEN UPDATE SET n = n + 10"
                 " WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0)"),
            "3/5");
  EXPECT_EQ(database.value("SELECT string_agg(concat(payload ->> 'op', ' ', coalesce(payload -> "
                           "'after', payload -> 'before') ->> 'id'), ', ' ORDER BY payload ->> "
                           "'op', id) FROM spillway.events"),
            "delete , insert 4, insert 5, update 1, update 3");
}

TEST_F(Watch, SeesEveryPartOfAStatementWithSeveral) {
  run("CREATE TABLE items (id int PRIMARY KEY, n int)");
  run("INSERT INTO items SELECT g, 0 FROM generate_series(1, 6) g");
  run("SELECT spillway.watch('items')");
  EXPECT_EQ(cost("WITH a AS (UPDATE items SET n = -1, id = id + 10 WHERE id < 3),"
                 " b AS (UPDATE items SET n = -3, id = id + 10 WHERE id IN (3, 4)),"
                 " c AS (DELETE FROM items WHERE id = 6), d AS (INSERT INTO items VALUES (7, 7))"
                 " UPDATE items SET n = -5, id = id + 10 WHERE id = 5"),
            "3/7");
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws(' ', payload #> '{before,id}',"
                           " payload #> '{after,id}', payload #> '{after,n}'), ', ' ORDER BY"
                           " coalesce(payload -> 'before', payload -> 'after'), id)"
                           " FROM spillway.events WHERE payload ->> 'op' = 'update'"),
            "1 11 -1, 2 12 -1, 3 13 -3, 4 14 -3, 5 15 -5");
}

TEST_F(Watch, PairsRowsWhosePrimaryKeyChanges) {
  run("CREATE TABLE items (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name text)");
  run("INSERT INTO items SELECT g, 'row ' || g FROM generate_series(1, 1000) g");
  run("SELECT spillway.watch('items')");
  // Every key is another row's afterwards.
  run("UPDATE items SET id = 1001 - id");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE"
                            " payload #> '{before,name}' = payload #> '{after,name}' AND"
                            " (payload #>> '{before,id}')::int + (payload #>> '{after,id}')::int = "
                            "1001"),
            1000);
}

TEST_F(Watch, PairsRowsWithoutAPrimaryKey) {
  run("CREATE TABLE notes (n int, twin text)");
  run("INSERT INTO notes SELECT g / 2, 'same' FROM generate_series(2, 9) g");
  run("SELECT spillway.watch('notes')");
  run("UPDATE notes SET n = n + 100 WHERE n <> 2");
  EXPECT_EQ(database.value("SELECT string_agg(concat(payload #> '{before,n}', '>',"
                           " payload #> '{after,n}'), ' ' ORDER BY id) FROM spillway.events"),
            "1>101 1>101 3>103 3>103 4>104 4>104");
}

TEST_F(Watch, SeesWhatOtherTriggersMadeOfTheRow) {
  run("CREATE TABLE items (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) "
      "STORED);"
      "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
      " IF NEW.n = 13 THEN RETURN NULL; END IF; NEW.n := NEW.n + 1000; RETURN NEW; END$$;"
      "CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION "
      "meddle()");
  run("SELECT spillway.watch('items')");
  run("INSERT INTO items VALUES (1, 1), (2, 13), (3, 3)");
  EXPECT_EQ(news(),
            "insert null {\"n\": 1001, \"id\": 1, \"twice\": 2002}\n"
            "insert null {\"n\": 1003, \"id\": 3, \"twice\": 2006}");
  run("UPDATE items SET n = CASE id WHEN 1 THEN 13 ELSE id END");
  EXPECT_EQ(news(), "") << "one was kept from changing, the other became what it was";
  run("UPDATE items SET n = 4 WHERE id = 3");
  EXPECT_EQ(news(),
            "update {\"n\": 1003, \"id\": 3, \"twice\": 2006}"
            " {\"n\": 1004, \"id\": 3, \"twice\": 2008}");
}

TEST_F(Watch, MakesNoEventOfAnUpdateThatChangesNothing) {
  run("CREATE TABLE items (id int PRIMARY KEY, n numeric, at timestamptz)");
  run("INSERT INTO items VALUES (1, 1.0, now()), (2, NULL, NULL)");
  run("SELECT spillway.watch('items')");
  run("UPDATE items SET n = n, at = at");
  run("UPDATE items SET n = 1.00 WHERE id = 1");  // equal
  EXPECT_EQ(news(), "");
  run("UPDATE items SET n = NULL");
  EXPECT_EQ(news().substr(0, 20), "update {\"n\": 1.00, \"");
}

TEST_F(Watch, CarriesOnlyTheColumnsThatAreListed) {
  run("CREATE TABLE people (id int PRIMARY KEY, name text, password text, n int)");
  run("SELECT spillway.watch('people', 'PersonChanged', columns => '{id,name}')");
  run("INSERT INTO people VALUES (1, 'ann', 'secret', 1), (2, 'bob', 'secret', 1)");
  EXPECT_EQ(news("type"),
            "insert null {\"id\": 1, \"name\": \"ann\"} PersonChanged\n"
            "insert null {\"id\": 2, \"name\": \"bob\"} PersonChanged");
  run("UPDATE people SET password = 'other', n = 2");
  EXPECT_EQ(news(), "");
  run("UPDATE people SET name = 'eve', n = 3 WHERE id = 2");
  EXPECT_EQ(news(), "update {\"id\": 2, \"name\": \"bob\"} {\"id\": 2, \"name\": \"eve\"}");
  run("DELETE FROM people WHERE id = 1");
  EXPECT_EQ(news(), "delete {\"id\": 1, \"name\": \"ann\"} null");
}

TEST_F(Watch, OfAColumnSeesOnlyUpdatesThatChangeIt) {
  run("CREATE TABLE orders (id int PRIMARY KEY, status text, n int)");
  run("SELECT spillway.watch('orders', 'StatusChanged', changed => 'status')");
  run("INSERT INTO orders VALUES (1, 'new', 1), (2, NULL, 1)");
  run("UPDATE orders SET n = 2");
  EXPECT_EQ(news(), "");
  run("UPDATE orders SET status = 'paid'");
  EXPECT_EQ(news(),
            "update {\"n\": 2, \"id\": 1, \"status\": \"new\"} {\"n\": 2, \"id\": 1, \"status\": "
            "\"paid\"}\n"
            "update {\"n\": 2, \"id\": 2, \"status\": null} {\"n\": 2, \"id\": 2, \"status\": "
            "\"paid\"}");
  run("DELETE FROM orders; TRUNCATE orders");
  EXPECT_EQ(news(), "");
  // Inserts and deletes too, where they are asked for; "changed" is about the updates.
  run("SELECT spillway.watch('orders', 'StatusChanged', changed => 'status',"
      " ops => '{insert,UPDATE,delete}')");
  run("INSERT INTO orders VALUES (1, 'new', 1); UPDATE orders SET n = 2; DELETE FROM orders");
  EXPECT_EQ(news("type"),
            "insert null {\"n\": 1, \"id\": 1, \"status\": \"new\"} StatusChanged\n"
            "delete {\"n\": 2, \"id\": 1, \"status\": \"new\"} null StatusChanged");
}

TEST_F(Watch, OfAColumnThatIsNotListedStillSeesItsChanges) {
  run("CREATE TABLE orders (id int PRIMARY KEY, status text, n int)");
  run("SELECT spillway.watch('orders', 'OrderPaid', '{id,n}', changed => 'status',"
      " changed_to => '\"paid\"', stream => 'status:{status}')");
  run("INSERT INTO orders VALUES (1, 'new', 1)");
  run("UPDATE orders SET n = 2");
  run("UPDATE orders SET status = 'paid'");
  run("UPDATE orders SET status = 'sent'");
  EXPECT_EQ(news("stream"), "update {\"n\": 2, \"id\": 1} {\"n\": 2, \"id\": 1} status:paid");
}

TEST_F(Watch, OfAValueSeesOnlyUpdatesThatChangeToIt) {
  run("CREATE TYPE state AS ENUM ('new', 'paid', 'sent');"
      "CREATE TABLE orders (id int PRIMARY KEY, status state, n int, at timestamptz, amount "
      "numeric(9,2), code char(4), done boolean, tags jsonb, ratio float8, words text[])");
  const auto events_of = [&](const std::string& column, const std::string& value) {
    run("TRUNCATE orders");
    run("INSERT INTO orders VALUES (1), (2), (3)");
    run("SELECT spillway.watch('orders', 'X', changed => '" + column + "', changed_to => " + value +
        ", columns => '{id}')");
  };
  events_of("status", "'paid'");
  run("UPDATE orders SET status = CASE id WHEN 1 THEN 'paid' WHEN 2 THEN 'new' END::state");
  EXPECT_EQ(news(), "update {\"id\": 1} {\"id\": 1}");
  run("UPDATE orders SET status = 'paid', n = 5");
  EXPECT_EQ(news(), "update {\"id\": 2} {\"id\": 2}\nupdate {\"id\": 3} {\"id\": 3}");
  events_of("status", "'null'");
  run("UPDATE orders SET status = CASE id WHEN 1 THEN 'paid' END::state");
  EXPECT_EQ(news(), "");
  run("UPDATE orders SET status = NULL");
  EXPECT_EQ(news(), "update {\"id\": 1} {\"id\": 1}");
  // As the column reads it, and whatever the session's own settings are.
  for (const auto& [column, value, sql] :
       {std::tuple{"at", "'2026-03-01 12:00+02'", "timestamptz '2026-03-01 10:00+00'"},
        {"at", "timestamptz '2026-03-01 12:00+02'", "timestamptz '2026-03-01 10:00+00'"},
        {"at", "'\"infinity\"'", "timestamptz 'infinity'"},
        {"amount", "'5'", "5.00"},
        {"amount", "5", "5.00"},
        {"amount", "'NaN'", "numeric 'NaN'"},
        {"code", "'ab'", "'ab'"},
        {"code", "'7'", "'7'"},
        {"code", "'\"null\"'", "'null'"},
        {"code", "to_jsonb('7'::text)", "'7'"},
        {"done", "true", "true"},
        {"done", "'true'", "true"},
        {"tags", "'{\"a\": 1, \"b\": 2}'", "jsonb '{\"b\":2,\"a\":1}'"},
        {"tags", "jsonb '[\"x\"]'", "jsonb '[\"x\"]'"},
        {"words", "'{a,b}'", "'{a,b}'::text[]"},
        {"words", "'[\"a\",\"b\"]'", "'{a,b}'::text[]"},
        {"words", "ARRAY['a','b']", "'{a,b}'::text[]"},
        {"ratio", "'0.1'", "0.1"}}) {
    events_of(column, value);
    run("SET timezone = 'Asia/Tokyo'; SET extra_float_digits = -5; SET datestyle = 'german'");
    run("UPDATE orders SET " + std::string(column) + " = CASE WHEN id < 3 THEN " + sql + " END");
    EXPECT_EQ(news(), "update {\"id\": 1} {\"id\": 1}\nupdate {\"id\": 2} {\"id\": 2}")
        << column << value;
    run("RESET ALL");
  }
  EXPECT_EQ(refusal("SELECT spillway.watch('orders', changed => 'status', changed_to => 'payed')")
                .message,
            "spillway.watch: changed_to is payed, which column \"status\" of type public.state "
            "cannot hold: invalid input value for enum public.state: \"payed\"");
}

TEST_F(Watch, TakesAConditionOnThePayload) {
  run("CREATE TABLE stock (sku text PRIMARY KEY, left_over int)");
  run("SELECT spillway.watch('stock', 'RanLow', ops => '{update}',"
      " condition => '$.after.left_over < 10 && $.before.left_over >= 10')");
  run("INSERT INTO stock VALUES ('a', 100), ('b', 5), ('c', NULL)");
  run("UPDATE stock SET left_over = left_over - 95");
  EXPECT_EQ(news(),
            "update {\"sku\": \"a\", \"left_over\": 100} {\"sku\": \"a\", \"left_over\": 5}");
  // A filter does as well as a predicate.
  run("SELECT spillway.watch('stock', 'RanLow', ops => '{insert,delete}',"
      " condition => '$.after ? (@.left_over < 10)', columns => '{sku,left_over}')");
  run("INSERT INTO stock VALUES ('d', 9), ('e', 10)");
  run("UPDATE stock SET left_over = 1; DELETE FROM stock");
  EXPECT_EQ(news(), "insert null {\"sku\": \"d\", \"left_over\": 9}");
  EXPECT_EQ(refusal("SELECT spillway.watch('stock', condition => '$.after.')").sqlstate, "42601");
}

TEST_F(Watch, DerivesTheStreamFromColumns) {
  run("CREATE TABLE items (id int PRIMARY KEY, shop text, \"Odd %s name\" text)");
  run("SELECT spillway.watch('items', stream => 'shop:{shop}/item:{id}')");
  run("INSERT INTO items VALUES (1, 'a'), (2, NULL), (3, '100%s')");
  EXPECT_EQ(database.value("SELECT string_agg(coalesce(stream, '-'), ' ' ORDER BY id) FROM "
                           "spillway.events"),
            "shop:a/item:1 - shop:100%s/item:3");
  news();
  run("UPDATE items SET shop = 'b' WHERE id = 1");  // where the row is now
  run("DELETE FROM items WHERE id = 1");
  EXPECT_EQ(news("stream"),
            "update {\"id\": 1, \"shop\": \"a\", \"Odd %s name\": null} {\"id\": 1, \"shop\": "
            "\"b\", \"Odd %s name\": null} shop:b/item:1\n"
            "delete {\"id\": 1, \"shop\": \"b\", \"Odd %s name\": null} null shop:b/item:1");
  run("TRUNCATE items");
  EXPECT_EQ(news("stream"), "truncate null null");
  run("SELECT spillway.watch('items', stream => '100% {Odd %s name}', columns => '{id}')");
  run("INSERT INTO items VALUES (1, 'a', 'x{id}'), (2, 'a', '')");
  EXPECT_EQ(news("stream"), "insert null {\"id\": 1} 100% x{id}\ninsert null {\"id\": 2} 100% ");
  run("SELECT spillway.watch('items', stream => '{shop}')");
  run("INSERT INTO items VALUES (5, '')");  // an empty stream is none
  EXPECT_EQ(news("stream IS NULL"),
            "insert null {\"id\": 5, \"shop\": \"\", \"Odd %s name\": null} t");
  run("SELECT spillway.watch('items', stream => 'items')");
  run("TRUNCATE items");
  EXPECT_EQ(news("stream"), "truncate null null items");
}

TEST_F(Watch, NumbersEventsInTheOrderOfTheRows) {
  run("CREATE TABLE items (id int, n int)");
  run("SELECT spillway.watch('items', stream => 'items')");
  run("COPY items (id) FROM PROGRAM 'seq 1 5000'");
  run("UPDATE items SET n = id");
  EXPECT_EQ(database.value("SELECT concat(count(*), ' ', count(*) FILTER (WHERE this <> last + 1))"
                           " FROM (SELECT this, lag(this) OVER (PARTITION BY op ORDER BY id) AS "
                           "last FROM (SELECT id, payload ->> 'op' AS op, (payload #>> "
                           "'{after,id}')::int AS this FROM spillway.events) e) x"),
            "10000 0");
}

TEST_F(Watch, OfAPartitionedTablePairsRowsThatMove) {
  run("CREATE TABLE parts (id int, place int, note text) PARTITION BY LIST (place);"
      "CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);"
      "CREATE TABLE part_2 (note text, gone int, place int, id int);"  // other columns, other order
      "ALTER TABLE part_2 DROP COLUMN gone;"
      "ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES IN (2)");
  run("SELECT spillway.watch('parts')");
  EXPECT_EQ(cost("INSERT INTO parts SELECT g, 1 + g % 2, 'n' || g FROM generate_series(1, 6) g"),
            "1/6");
  // 1 and 4 stay, the others move.
  run("UPDATE parts SET place = CASE WHEN id IN (1, 4) THEN place ELSE 3 - place END, note = note "
      "|| '!'");
  EXPECT_EQ(database.value(
                "SELECT string_agg(concat(payload #> '{before,id}', payload #> '{after,id}', ' ',"
                " payload #>> '{before,note}', payload #>> '{after,note}', ' ',"
                " payload #> '{before,place}', payload #> '{after,place}', ' ', payload ->> "
                "'table', ' ', payload ->> 'op'), E'\\n' ORDER BY payload #> '{after,id}')"
                " FROM spillway.events WHERE id > 6"),
            "11 n1n1! 22 parts update\n22 n2n2! 12 parts update\n33 n3n3! 21 parts update\n"
            "44 n4n4! 11 parts update\n55 n5n5! 21 parts update\n66 n6n6! 12 parts update");
  EXPECT_EQ(cost("COPY parts (id, place) FROM PROGRAM 'seq -f \"%.0f\t2\" 11 20'"), "1/10");
  EXPECT_EQ(cost("DELETE FROM parts WHERE id < 11"), "1/6");
  EXPECT_EQ(cost("TRUNCATE parts"), "1/1");
  // A partition that is named itself has triggers of its own, or none.
  EXPECT_EQ(cost("INSERT INTO part_1 VALUES (1, 1, 'direct')"), "0/0");
  run("SELECT spillway.watch('part_1')");
  EXPECT_EQ(cost("UPDATE part_1 SET note = 'by name'"), "1/1");
  EXPECT_EQ(cost("UPDATE parts SET note = 'by parent'"), "1/1");
}

TEST_F(Watch, OfAPartitionedTableNeverMispairsWhenATriggerSwallowsARowThatMoves) {
  run("CREATE TABLE parts (id int, place int, note text) PARTITION BY LIST (place);"
      "CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);"
      "CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2);"
      "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
      " $$BEGIN RETURN CASE WHEN NEW.note = 'lost' THEN NULL ELSE NEW END; END$$;"
      "CREATE TRIGGER swallow BEFORE INSERT ON part_2 FOR EACH ROW EXECUTE FUNCTION swallow()");
  const std::string rows =
      "INSERT INTO parts VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 1, 'c'), (4, 1, 'd')";
  const std::string change =
      "UPDATE parts SET place = CASE WHEN id IN (1, 2) THEN 2 ELSE 1 END,"
      " note = CASE id WHEN 1 THEN 'lost' ELSE 'x' END";
  run("SELECT spillway.watch('parts')");
  run(rows);
  news();
  run(change);  // no primary key: nothing says which row is which
  EXPECT_EQ(database.value("SELECT string_agg(DISTINCT payload ->> 'op', ' ') || count(*) FROM "
                           "spillway.events WHERE id > 4"),
            "delete insert7");
  run("TRUNCATE parts");
  run("ALTER TABLE parts ADD PRIMARY KEY (id, place)");
  run(rows);
  news();
  run(change);
  EXPECT_EQ(news(),
            "delete {\"id\": 1, \"note\": \"a\", \"place\": 1} null\n"
            "insert null {\"id\": 2, \"note\": \"x\", \"place\": 2}\n"
            "delete {\"id\": 2, \"note\": \"b\", \"place\": 1} null\n"
            "update {\"id\": 3, \"note\": \"c\", \"place\": 1} {\"id\": 3, \"note\": \"x\", "
            "\"place\": 1}\n"
            "update {\"id\": 4, \"note\": \"d\", \"place\": 1} {\"id\": 4, \"note\": \"x\", "
            "\"place\": 1}");
  for (const char* ids : {"(1)", "(1, 3)"}) {  // no new version, then one of two
    run("TRUNCATE parts");
    run(rows);
    news();
    run(change + " WHERE id IN " + ids);
    const std::string what = news();
    EXPECT_EQ(what.find("delete {\"id\": 1, \"note\": \"a\", \"place\": 1} null"), 0u) << what;
    EXPECT_EQ(what.find("\nupdate {\"id\": 3,") != std::string::npos, ids == std::string("(1, 3)"));
    EXPECT_EQ(what.find("insert"), std::string::npos) << what;
  }
  // Only what was asked for.
  run("SELECT spillway.watch('parts', ops => '{update}')");
  run("TRUNCATE parts");
  run(rows);
  run(change);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE payload ->> 'op' <> "
                            "'update' AND id > " +
                            std::to_string(seen_)),
            0);
}

TEST_F(Watch, SeesWhatForeignKeysDo) {
  run("CREATE TABLE lists (id int PRIMARY KEY, owner int);"
      "CREATE TABLE entries (id int PRIMARY KEY, list int REFERENCES lists ON DELETE CASCADE ON "
      "UPDATE CASCADE, other int REFERENCES lists ON DELETE SET NULL ON UPDATE CASCADE)");
  run("INSERT INTO lists SELECT g FROM generate_series(1, 100) g");
  run("INSERT INTO entries SELECT g, 1 + g % 100, 100 - g % 100 FROM generate_series(1, 1000) g");
  run("SELECT spillway.watch('entries')");
  // A statement each as far as we are concerned, though the foreign key makes one per list.
  EXPECT_EQ(cost("UPDATE lists SET id = id + 1000 WHERE id <= 10"), "1/200");
  EXPECT_EQ(database.number(
                "SELECT count(*) FROM spillway.events WHERE payload #> '{before,id}' = payload #> "
                "'{after,id}' AND ((payload #>> '{before,list}')::int + 1000 = (payload #>> "
                "'{after,list}')::int) <> ((payload #>> '{before,other}')::int + 1000 = (payload "
                "#>> '{after,other}')::int)"),
            200);
  EXPECT_EQ(cost("DELETE FROM lists WHERE id BETWEEN 1001 AND 1010"), "2/200");
  EXPECT_EQ(database.number("SELECT count(*) FROM entries"), 900);
  EXPECT_EQ(database.value("SELECT string_agg(concat(payload ->> 'op', ' ', n), ', ' ORDER BY n) "
                           "FROM (SELECT payload - 'before' - 'after' AS payload, count(*) AS n "
                           "FROM spillway.events GROUP BY 1) x"),
            "delete 100, update 300");
}

TEST_F(Watch, SeesARowThatTwoForeignKeysChangeInTheOrderOfTheChanges) {
  run("CREATE TABLE lists (id int PRIMARY KEY);"
      "CREATE TABLE entries (id int, a int REFERENCES lists ON DELETE SET NULL,"
      " b int REFERENCES lists ON DELETE SET NULL)");
  run("INSERT INTO lists VALUES (1), (2); INSERT INTO entries VALUES (7, 1, 2)");
  run("SELECT spillway.watch('entries', stream => 'entry:{id}')");
  run("DELETE FROM lists");
  EXPECT_EQ(news(),
            "update {\"a\": 1, \"b\": 2, \"id\": 7} {\"a\": null, \"b\": 2, \"id\": 7}\n"
            "update {\"a\": null, \"b\": 2, \"id\": 7} {\"a\": null, \"b\": null, \"id\": 7}");
}

TEST_F(Watch, SurvivesColumnsThatComeGoAndAreRenamed) {
  run("CREATE TABLE items (id int PRIMARY KEY, name text, n int)");
  run("SELECT spillway.watch('items')");
  run("SELECT spillway.watch('items', 'NameChanged', columns => '{id,name}', changed => 'name',"
      " stream => 'item:{name}')");
  const auto of = [&](const std::string& type) {
    return database.value(
        "SELECT concat_ws(' ', payload ->> 'op', payload -> 'before', payload -> 'after', stream)"
        " FROM spillway.events WHERE type = '" +
        type + "' AND id > " + std::to_string(seen_));
  };
  run("INSERT INTO items VALUES (1, 'a', 1)");
  run("UPDATE items SET name = 'b'");
  news();
  run("ALTER TABLE items ADD COLUMN extra text DEFAULT 'new'");
  run("UPDATE items SET name = 'c'");
  EXPECT_EQ(of("RowChanged"),
            "update {\"n\": 1, \"id\": 1, \"name\": \"b\", \"extra\": \"new\"}"
            " {\"n\": 1, \"id\": 1, \"name\": \"c\", \"extra\": \"new\"}");
  EXPECT_EQ(of("NameChanged"),
            "update {\"id\": 1, \"name\": \"b\"} {\"id\": 1, \"name\": \"c\"} item:c");
  news();
  run("ALTER TABLE items DROP COLUMN n, ALTER COLUMN extra DROP DEFAULT, ALTER COLUMN extra TYPE "
      "int USING 7");
  run("UPDATE items SET name = 'd'");
  EXPECT_EQ(of("RowChanged"),
            "update {\"id\": 1, \"name\": \"c\", \"extra\": 7}"
            " {\"id\": 1, \"name\": \"d\", \"extra\": 7}");
  news();
  EXPECT_EQ(database.value("SELECT string_agg(missing_columns::text, ' ') FROM spillway.watches"),
            "{} {}");
  run("ALTER TABLE items RENAME COLUMN name TO title");
  run("INSERT INTO items VALUES (2, 'x')");
  run("UPDATE items SET title = 'y'");
  run("DELETE FROM items WHERE id = 2");
  EXPECT_EQ(database.value("SELECT string_agg(payload ->> 'op', ' ' ORDER BY id) FROM "
                           "spillway.events WHERE id > " +
                           std::to_string(seen_)),
            "insert update update delete");
  EXPECT_EQ(of("NameChanged"), "") << "a column that is not there does not change";
  EXPECT_EQ(database.value("SELECT missing_columns FROM spillway.watches WHERE event_type = "
                           "'NameChanged'"),
            "{name}");
  // A list of which nothing is left carries nothing, and breaks nothing.
  run("SELECT spillway.watch('items', 'OnlyTitle', columns => '{title}')");
  run("ALTER TABLE items DROP COLUMN title");
  news();
  run("INSERT INTO items VALUES (3); UPDATE items SET extra = 4; DELETE FROM items WHERE id = 3");
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws(' ', payload ->> 'op', payload -> "
                           "'before', payload -> 'after'), ', ' ORDER BY id) FROM spillway.events "
                           "WHERE type = 'OnlyTitle' AND id > " +
                           std::to_string(seen_)),
            "insert null {}, delete {} null");
}

TEST_F(Watch, FollowsTheTableAndGoesWithIt) {
  run("CREATE SCHEMA shop; CREATE TABLE shop.items (id int)");
  run("SELECT spillway.watch('shop.items')");
  run("INSERT INTO shop.items VALUES (1)");
  EXPECT_EQ(news("payload ->> 'table'"), "insert null {\"id\": 1} shop.items");
  run("ALTER TABLE shop.items RENAME TO goods");
  run("INSERT INTO shop.goods VALUES (2)");
  EXPECT_EQ(news("payload ->> 'table'"), "insert null {\"id\": 2} shop.goods");
  run("ALTER TABLE shop.goods SET SCHEMA public");
  run("INSERT INTO goods VALUES (3)");
  EXPECT_EQ(news("payload ->> 'table'"), "insert null {\"id\": 3} goods");
  EXPECT_EQ(database.value("SELECT \"table\" FROM spillway.watches"), "goods");
  run("DROP TABLE goods");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.watches"), 0);
  run("CREATE TABLE goods (id int); INSERT INTO goods VALUES (1)");
  EXPECT_EQ(news(), "");
}

TEST_F(Watch, TakesColumnsThatAreNamedAsItsOwnAre) {
  run("CREATE TYPE two AS (n int, x int);"
      "CREATE TABLE odd (i int, r two, n int, key text, op text, before json, after text, o int, w "
      "int, c int, \"table\" text, type text)");
  for (const char* columns : {"NULL", "'{i,r,n,key,op,before,after,o,w,c,table,type}'"}) {
    run(std::string("SELECT spillway.watch('odd', columns => ") + columns +
        ", stream => '{r}{n}')");
    for (const char* rows :
         {"(1, '(2,3)', 4, 'k')", "(1, '(2,3)', 4, 'k'), (5, '(2,3)', 4, 'k')"}) {
      run(std::string("INSERT INTO odd VALUES ") + rows);
      run("UPDATE odd SET i = i + 1");
      news();
      run("DELETE FROM odd");
      EXPECT_EQ(
          database.value("SELECT concat(payload -> 'before', stream) FROM spillway.events"
                         " ORDER BY id DESC LIMIT 1 OFFSET " +
                         std::string(std::string(rows).size() > 30 ? "1" : "0")),
          "{\"c\": null, \"i\": 2, \"n\": 4, \"o\": null, \"r\": {\"n\": 2, \"x\": 3}, \"w\": "
          "null, \"op\": null, \"key\": \"k\", \"type\": null, \"after\": null, \"table\": "
          "null, \"before\": null}{\"n\": 2, \"x\": 3}4");
    }
  }
}

TEST_F(Watch, TakesNamesAndTextsThatTryToBeSql) {
  const std::string table = R"("we""ird.'$$; DROP TABLE x; --\")";
  const std::string column = R"("c""ol'); DROP TABLE x; --%s\")";
  run("CREATE TABLE x (); CREATE TABLE " + table + " (" + column + " json, \"Ünï\" int)");
  const std::string name = R"($q$"we""ird.'$$; DROP TABLE x; --\"$q$)";
  const std::string type = R"($q$Type'"); DROP TABLE x; -- \ Ünï $q$)";
  run("SELECT spillway.watch(" + name + ", " + type +
      R"(, columns => ARRAY[$q$c"ol'); DROP TABLE x; --%s\$q$, 'Ünï'],)"
      R"( stream => $q$s'"\;{c"ol'); DROP TABLE x; --%s\}$q$, condition => '$.table like_regex "DROP\\sTABLE"'))");
  run("INSERT INTO " + table + " VALUES ('1', 2)");
  run("UPDATE " + table + " SET \"Ünï\" = 3");
  run("DELETE FROM " + table);
  EXPECT_EQ(database.value("SELECT string_agg(concat(payload ->> 'op', ' ', payload ->> 'table', "
                           "' ', stream, ' ', type), E'\\n' ORDER BY id) FROM spillway.events"),
            "insert we\"ird.'$$; DROP TABLE x; --\\ s'\"\\;1 Type'\"); DROP TABLE x; -- \\ Ünï \n"
            "update we\"ird.'$$; DROP TABLE x; --\\ s'\"\\;1 Type'\"); DROP TABLE x; -- \\ Ünï \n"
            "delete we\"ird.'$$; DROP TABLE x; --\\ s'\"\\;1 Type'\"); DROP TABLE x; -- \\ Ünï ");
  EXPECT_EQ(database.value("SELECT count(*) FROM spillway.watches WHERE event_type = " + type),
            "1");
  EXPECT_EQ(database.value("SELECT spillway.unwatch(" + name + ", " + type + ")"), "t");
  EXPECT_EQ(database.number("SELECT count(*) FROM x"), 0);
  // A type that is longer than a trigger's name may be.
  run("SELECT spillway.watch('x', repeat('Long', 50))");
  run("SELECT spillway.watch('x', repeat('Long', 51))");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.watches"), 2);
  run("INSERT INTO x DEFAULT VALUES");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE type LIKE 'LongLong%'"), 2);
}

TEST_F(Watch, NeverBreaksAStatementOverAValue) {
  run("CREATE TYPE pair AS (a int, b json); CREATE DOMAIN doc AS json; CREATE TYPE mood AS ENUM "
      "('sad'); CREATE TYPE span AS RANGE (subtype = float8);"
      "CREATE TABLE odd (id int, n numeric, f float8, t timestamptz, d date, i interval, b bytea,"
      " j json, jb jsonb, p pair, ps pair[], ds doc, m mood, ms mood[], g point, x xml, v tsvector,"
      " u uuid, ip inet, r int4range, s span, bits bit(3), money money, js json[], name \"char\", "
      "big text)");
  run("SELECT spillway.watch('odd')");
  run("INSERT INTO odd VALUES (1, 'NaN', 'NaN', 'infinity', '-infinity', '1 year 2 days 03:04', "
      "'\\x00ff', '{\"a\":\"\\u0000\"}', '{\"a\":1}', '(1,\"[1]\")', '{\"(2,[2])\"}', '[3]', 'sad',"
      " '{sad,sad}', '(1,2)', '<a/>', 'fat:2 cat', gen_random_uuid(), '::1', '[1,3)', '[0.5,2)',"
      " '101', 3.5, '{\"[1]\"}', 'c', repeat('x', 1000000))");
  EXPECT_EQ(
      database.value("SELECT (payload -> 'after') - 'u' - 'big' - 'money' FROM spillway.events"),
      "{\"b\": \"\\\\x00ff\", \"d\": \"-infinity\", \"f\": \"NaN\", \"g\": \"(1,2)\", \"i\": \"1 "
      "year 2 days 03:04:00\", \"j\": \"{\\\"a\\\":\\\"\\\\u0000\\\"}\", \"m\": \"sad\", \"n\": "
      "\"NaN\", \"p\": {\"a\": 1, \"b\": [1]}, \"r\": \"[1,3)\", \"s\": \"[0.5,2)\", \"t\": "
      "\"infinity\", \"v\": \"'cat' 'fat':2\", \"x\": \"<a/>\", \"ds\": [3], \"id\": 1, \"ip\": "
      "\"::1\", \"jb\": {\"a\": 1}, \"js\": [[1]], \"ms\": [\"sad\", \"sad\"], \"ps\": [{\"a\": 2, "
      "\"b\": [2]}], \"bits\": \"101\", \"name\": \"c\"}");
  // What json may hold and jsonb may not: NUL, half a surrogate, a number without end.
  for (const char* value :
       {R"(["\u0000"])", R"(["\ud800"])", R"(1e1000000)", R"({"a":{"b":"\u0000"}})"}) {
    news();
    run(std::string("UPDATE odd SET j = '") + value + "', p = ROW(1, '" + value +
        "'), js = ARRAY['" + value + "'::json], ds = '" + value + "'");
    EXPECT_EQ(database.value("SELECT payload #>> '{after,j}' FROM spillway.events ORDER BY id DESC "
                             "LIMIT 1"),
              value);
    EXPECT_EQ(
        database.value("SELECT payload #>> '{after,ds}' FROM spillway.events ORDER BY id DESC "
                       "LIMIT 1"),
        value);
  }
  run("INSERT INTO odd (id, j) VALUES (2, '[\"\\u0000\"]'), (3, '[1]')");
  EXPECT_EQ(
      database.value("SELECT string_agg(payload #>> '{after,j}', ' ' ORDER BY id) FROM (SELECT *"
                     " FROM spillway.events ORDER BY id DESC LIMIT 2) x"),
      "[\"\\u0000\"] [1]");
  run("DELETE FROM odd WHERE id > 1");
  run("UPDATE odd SET j = NULL, p = NULL, js = NULL, ds = NULL");
  EXPECT_EQ(
      database.value("SELECT payload #> '{after}' -> 'j' || (payload #> '{after}' -> 'p') FROM "
                     "spillway.events ORDER BY id DESC LIMIT 1"),
      "[null, null]");
  run("DELETE FROM odd");
  EXPECT_EQ(database.value("SELECT payload ->> 'op' FROM spillway.events ORDER BY id DESC LIMIT 1"),
            "delete");
}

TEST_F(Watch, LooksTheSameWhateverTheSessionsSettings) {
  run("CREATE TABLE odd (t timestamptz, b bytea, f float8, i interval)");
  run("SELECT spillway.watch('odd')");
  const std::string insert =
      "INSERT INTO odd VALUES ('2026-01-01 00:00+00', '\\x0041', 0.1::float8 + 0.2, '90 min')";
  run(insert);
  const std::string plain = news();
  EXPECT_EQ(plain,
            "insert null {\"b\": \"\\\\x0041\", \"f\": 0.30000000000000004, \"i\": \"01:30:00\","
            " \"t\": \"2026-01-01T00:00:00+00:00\"}");
  run("SET timezone = 'Asia/Tokyo'; SET bytea_output = 'escape'; SET extra_float_digits = -10;"
      "SET intervalstyle = 'iso_8601'; SET search_path = pg_temp; SET datestyle = 'german'");
  run("INSERT INTO public." + insert.substr(12));
  EXPECT_EQ(news(), plain);
  EXPECT_EQ(database.value("SHOW timezone"), "Asia/Tokyo");
}

TEST_F(Watch, IsReplacedByWatchingAgain) {
  run("CREATE TABLE items (id int, name text)");
  run("SELECT spillway.watch('items', columns => '{id}', ops => '{insert,delete}')");
  run("SELECT spillway.watch('items', ops => '{insert,update}', stream => 'all')");
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws('|', \"table\", event_type, ops, columns, "
                           "stream, enabled), ';') FROM spillway.watches"),
            "items|RowChanged|{insert,update}|all|t");
  run("INSERT INTO items VALUES (1, 'a'); DELETE FROM items");
  EXPECT_EQ(news("stream"), "insert null {\"id\": 1, \"name\": \"a\"} all");
  // The same again leaves the triggers alone and waits for nobody.
  const std::string triggers =
      "SELECT string_agg(concat(oid, ' ', xmin), ', ' ORDER BY oid) FROM "
      "pg_trigger WHERE NOT tgisinternal AND tgrelid = 'items'::regclass";
  const std::string before = database.value(triggers);
  const auto other = connect();
  other->exec("BEGIN; LOCK TABLE items IN ROW EXCLUSIVE MODE");
  run("SET lock_timeout = '10s'");
  run("SELECT spillway.watch('items', ops => '{update,insert}', stream => 'all')");
  EXPECT_EQ(database.value(triggers), before);
  other->exec("COMMIT");
  // One that was switched off is switched on.
  run("ALTER TABLE items DISABLE TRIGGER ALL");
  EXPECT_EQ(database.value("SELECT enabled FROM spillway.watches"), "f");
  run("SELECT spillway.watch('items', ops => '{update,insert}', stream => 'all')");
  run("INSERT INTO items VALUES (1, 'a')");
  EXPECT_EQ(news("stream"), "insert null {\"id\": 1, \"name\": \"a\"} all");
}

TEST_F(Watch, OfAnotherTypeStandsBesideTheFirst) {
  run("CREATE TABLE orders (id int, status text)");
  run("SELECT spillway.watch('orders', 'OrderPlaced', ops => '{insert}')");
  run("SELECT spillway.watch('orders', 'OrderPaid', changed => 'status', changed_to => "
      "'\"paid\"')");
  run("SELECT spillway.watch('orders', 'OrderGone', ops => '{delete,truncate}')");
  run("INSERT INTO orders VALUES (1, 'new'); UPDATE orders SET status = 'paid'; DELETE FROM "
      "orders");
  EXPECT_EQ(database.value("SELECT string_agg(type, ' ' ORDER BY id) FROM spillway.events"),
            "OrderPlaced OrderPaid OrderGone");
  EXPECT_EQ(database.value("SELECT spillway.unwatch('orders', 'OrderPaid')"), "t");
  EXPECT_EQ(database.value("SELECT spillway.unwatch('orders', 'OrderPaid')"), "f");
  EXPECT_EQ(database.value("SELECT string_agg(event_type, ' ' ORDER BY event_type) FROM "
                           "spillway.watches"),
            "OrderGone OrderPlaced");
  EXPECT_EQ(database.value("SELECT spillway.unwatch('orders')"), "t");
  EXPECT_EQ(database.value("SELECT spillway.unwatch('orders')"), "f");
  EXPECT_EQ(database.number("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass"),
            0);
  run("INSERT INTO orders VALUES (1, 'new')");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 3);
  EXPECT_EQ(refusal("SELECT spillway.unwatch('nosuch')").sqlstate, "42P01");
}

TEST_F(Watch, OfOneTableFromManySessionsAtOnceIsOneWatch) {
  run("CREATE TABLE items (id int)");
  std::vector<std::string> problems(6);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < problems.size(); ++t)
      threads.emplace_back([&, t] {
        PgConnection session(database.target());
        for (int i = 0; i < 10; ++i)
          problems[t] += refusal(session, "SELECT spillway.watch('items', stream => '" +
                                              std::to_string((i + static_cast<int>(t)) % 3) + "')")
                             .message;
      });
  }
  for (const auto& problem : problems) EXPECT_EQ(problem, "");
  EXPECT_EQ(database.number("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'items'::regclass"),
            4);
}

TEST_F(Watch, RefusesWhatItCannotWatch) {
  run("CREATE TABLE items (id int, name text); CREATE VIEW seen AS TABLE items;"
      "CREATE MATERIALIZED VIEW kept AS TABLE items; CREATE SEQUENCE numbers;"
      "CREATE INDEX items_id ON items (id); CREATE FOREIGN DATA WRAPPER none;"
      "CREATE SERVER nowhere FOREIGN DATA WRAPPER none;"
      "CREATE FOREIGN TABLE far (id int) SERVER nowhere");
  const auto session = connect();
  session->exec("CREATE TEMPORARY TABLE passing (id int)");
  for (const auto& [arguments, sqlstate, message] : {
           std::tuple{"'seen'", "42809", "spillway.watch: public.seen is a view, not a table"},
           {"'kept'", "42809", "spillway.watch: public.kept is a materialized view, not a table"},
           {"'far'", "42809", "spillway.watch: public.far is a foreign table, not a table"},
           {"'numbers'", "42809", "spillway.watch: public.numbers is a sequence, not a table"},
           {"'items_id'", "42809", "spillway.watch: public.items_id is an index, not a table"},
           {"'passing'", "42809", "spillway.watch: passing is a temporary table"},
           {"'spillway.events'", "42809",
            "spillway.watch: spillway.events is spillway's own; its events would make events "
            "without end"},
           {"'spillway.kv'", "42809",
            "spillway.watch: spillway.kv is spillway's own; its events would make events without "
            "end"},
           {"'pg_class'", "42809", "spillway.watch: pg_class is PostgreSQL's own"},
           {"'information_schema.sql_features'", "42809",
            "spillway.watch: information_schema.sql_features is PostgreSQL's own"},
           {"'nosuch'", "42P01", "relation \"nosuch\" does not exist"},
           {"NULL", "42P01", "spillway.watch: there is no table null"},
           {"'items', ''", "22023", "spillway.watch: event_type is empty"},
           {"'items', columns => '{id,nope}'", "42703",
            "spillway.watch: table public.items has no column \"nope\"; it has id, name"},
           {"'items', columns => '{}'", "22023", "spillway.watch: columns is empty"},
           {"'items', ops => '{insert,upsert}'", "22023",
            "spillway.watch: ops is {insert,upsert}; it takes insert, update, delete and truncate"},
           {"'items', ops => '{}'", "22023",
            "spillway.watch: ops is {}; it takes insert, update, delete and truncate"},
           {"'items', changed => 'nope'", "42703",
            "spillway.watch: table public.items has no column \"nope\"; it has id, name"},
           {"'items', changed => 'ctid'", "42703",
            "spillway.watch: table public.items has no column \"ctid\"; it has id, name"},
           {"'items', changed_to => '1'", "22023", "spillway.watch: changed_to needs changed"},
           {"'items', changed => 'id', changed_to => 'x'", "22023",
            "spillway.watch: changed_to is x, which column \"id\" of type integer cannot hold: "
            "invalid input syntax for type integer: \"x\""},
           {"'items', changed => 'id', ops => '{insert}'", "22023",
            "spillway.watch: changed is about updates, and ops is {insert}"},
           {"'items', stream => 'item:{nope}'", "42703",
            "spillway.watch: table public.items has no column \"nope\"; it has id, name"},
           {"'items', stream => 'item:{id'", "22023", "spillway.watch: stream is \"item:{id\""},
           {"'items', stream => 'item:{{id}}'", "22023",
            "spillway.watch: stream is \"item:{{id}}\""},
           {"'items', stream => ''", "22023", "spillway.watch: stream is \"\""},
       }) {
    const Refusal answer =
        refusal(*session, std::string("SELECT spillway.watch(") + arguments + ")");
    EXPECT_EQ(answer.sqlstate, sqlstate) << arguments;
    EXPECT_EQ(answer.message, message) << arguments;
  }
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.watches"), 0);
}

class WatchRoles : public Watch {
 protected:
  WatchRoles() {
    // Roles belong to the server, so each test has its own.
    const std::string suffix = database.value("SELECT current_database()");
    owner = "owner_of_" + suffix;
    writer = "user_of_" + suffix;
    run("CREATE ROLE " + owner + "; CREATE ROLE " + writer + "; CREATE SCHEMA shop AUTHORIZATION " +
        owner + "; GRANT USAGE ON SCHEMA shop TO " + writer);
    owners = connect();
    owners->exec("SET ROLE " + owner);
    owners->exec(
        "CREATE TABLE shop.items (id int PRIMARY KEY, name text);"
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON shop.items TO " +
        writer);
    writers = connect();
    writers->exec("SET ROLE " + writer);
  }
  ~WatchRoles() override {
    owners.reset();
    writers.reset();
    run("DROP OWNED BY " + owner + ", " + writer + " CASCADE; DROP ROLE " + owner + ", " + writer);
  }

  std::string owner;
  std::string writer;
  std::unique_ptr<PgConnection> owners;
  std::unique_ptr<PgConnection> writers;
};

TEST_F(WatchRoles, WhoChangesTheTableNeedsNoRightOnSpillway) {
  EXPECT_EQ(refusal(*owners, "SELECT spillway.watch('shop.items')").message,
            "spillway.watch: the owner of table shop.items may not insert into spillway.events");
  run("GRANT INSERT ON spillway.events TO " + owner);
  owners->exec("SELECT spillway.watch('shop.items', stream => 'item:{id}')");
  writers->exec("INSERT INTO shop.items VALUES (1, 'a'), (2, 'b')");
  writers->exec("UPDATE shop.items SET name = 'c'");
  writers->exec("DELETE FROM shop.items WHERE id = 1");
  writers->exec("TRUNCATE shop.items");
  EXPECT_EQ(database.value("SELECT string_agg(payload ->> 'op', ' ' ORDER BY id) FROM "
                           "spillway.events"),
            "insert insert update update delete truncate");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 6);
  for (const char* statement :
       {"INSERT INTO spillway.events (type) VALUES ('A')", "SELECT * FROM spillway.events",
        "SELECT spillway.row_change()", "SELECT spillway.becomes_jsonb(23)",
        "SELECT spillway.jsonb_or_text(1)"})
    EXPECT_FALSE(refusal(*writers, statement).sqlstate.empty()) << statement;
  // The owner's right is what counts, also later.
  run("REVOKE INSERT ON spillway.events FROM " + owner);
  const Refusal answer = refusal(*writers, "INSERT INTO shop.items VALUES (3, 'c')");
  EXPECT_EQ(answer.sqlstate, "42501");
  EXPECT_EQ(answer.message,
            "table \"shop.items\" is watched, but its owner may not insert into spillway.events");
}

TEST_F(WatchRoles, OnlyTheOwnerMayWatchAndUnwatch) {
  run("GRANT INSERT ON spillway.events TO " + owner + ", " + writer);
  EXPECT_EQ(refusal(*writers, "SELECT spillway.watch('shop.items')").message,
            "spillway.watch: you are not the owner of table shop.items");
  owners->exec("SELECT spillway.watch('shop.items')");
  EXPECT_EQ(refusal(*writers, "SELECT spillway.watch('shop.items', ops => '{insert}')").sqlstate,
            "42501");
  EXPECT_EQ(refusal(*writers, "SELECT spillway.unwatch('shop.items')").sqlstate, "42501");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.watches"), 1);
  EXPECT_EQ(owners->exec("SELECT spillway.unwatch('shop.items')").string(0, 0), "t");
  run("SELECT spillway.watch('shop.items')");  // a superuser
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.watches"), 1);
}

TEST_F(WatchRoles, ATriggerMadeByHandLendsNobodyOurRights) {
  run("GRANT INSERT ON spillway.events TO " + owner);
  run("CREATE TABLE public.whoami (name text); GRANT ALL ON public.whoami TO PUBLIC");
  owners->exec(
      "CREATE FUNCTION shop.evil() RETURNS int LANGUAGE plpgsql AS $$BEGIN"
      " INSERT INTO public.whoami VALUES (current_user); RETURN 1; END$$;"
      "GRANT USAGE ON SCHEMA shop TO PUBLIC;"
      "CREATE TEMPORARY VIEW old_rows AS SELECT shop.evil();"
      "CREATE TEMPORARY VIEW new_rows AS SELECT shop.evil()");
  const std::string call =
      R"( EXECUTE FUNCTION spillway.row_change('{"type":"T","ops":["insert","update","delete"]}'))";
  for (const char* trigger :
       {"AFTER INSERT ON shop.items FOR EACH STATEMENT", "AFTER INSERT ON shop.items FOR EACH ROW",
        "BEFORE INSERT ON shop.items FOR EACH ROW",
        "BEFORE INSERT ON shop.items FOR EACH STATEMENT",
        "AFTER INSERT ON shop.items REFERENCING NEW TABLE AS other FOR EACH STATEMENT",
        "AFTER INSERT ON shop.items REFERENCING NEW TABLE AS new_rows FOR EACH ROW"}) {
    owners->exec(std::string("CREATE TRIGGER mine ") + trigger + call);
    EXPECT_EQ(refusal(*owners, "INSERT INTO shop.items VALUES (1)").message,
              "trigger \"mine\" of table \"shop.items\" is none that spillway.watch() made")
        << trigger;
    owners->exec("DROP TRIGGER mine ON shop.items");
  }
  EXPECT_EQ(database.value("SELECT string_agg(name, ' ') FROM public.whoami"), "");
  // Arguments that watch() never wrote harm their own table only.
  owners->exec(
      "CREATE TRIGGER mine AFTER INSERT ON shop.items REFERENCING NEW TABLE AS new_rows FOR EACH "
      "STATEMENT EXECUTE FUNCTION spillway.row_change('no json')");
  EXPECT_FALSE(refusal(*owners, "INSERT INTO shop.items VALUES (1)").sqlstate.empty());
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.watches"), 0);
  EXPECT_EQ(owners->exec("SELECT spillway.unwatch('shop.items')").string(0, 0), "t");
}

TEST_F(WatchRoles, ACastToJsonIsNotRunWithOurRights) {
  run("GRANT INSERT ON spillway.events TO " + owner);
  run("CREATE TABLE public.whoami (name text); GRANT ALL ON public.whoami TO PUBLIC");
  owners->exec(
      "CREATE TYPE shop.trap AS ENUM ('a'); CREATE TYPE shop.box AS (t shop.trap);"
      "CREATE DOMAIN shop.boxes AS shop.box[];"
      "CREATE FUNCTION shop.evil(shop.trap) RETURNS json LANGUAGE plpgsql AS $$BEGIN"
      " INSERT INTO public.whoami VALUES (current_user); RETURN '1'; END$$;"
      "CREATE CAST (shop.trap AS json) WITH FUNCTION shop.evil(shop.trap);"
      "ALTER TABLE shop.items ADD t shop.trap, ADD ts shop.trap[], ADD b shop.box, ADD bs "
      "shop.boxes");
  owners->exec("SELECT spillway.watch('shop.items')");
  owners->exec(
      "INSERT INTO shop.items VALUES (1, 'n', 'a', '{a}', '(a)', '{(a)}'), (2, NULL, NULL, NULL, "
      "NULL, NULL)");
  owners->exec("UPDATE shop.items SET name = 'x' WHERE id = 1");
  EXPECT_EQ(database.value("SELECT string_agg(name, ' ') FROM public.whoami"), "");
  EXPECT_EQ(
      database.value("SELECT payload -> 'after' FROM spillway.events ORDER BY id DESC LIMIT 1"),
      "{\"b\": \"(a)\", \"t\": \"a\", \"bs\": \"{(a)}\", \"id\": 1, \"ts\": \"{a}\", "
      "\"name\": \"x\"}");
  EXPECT_EQ(
      database.value("SELECT payload -> 'after' FROM spillway.events ORDER BY id OFFSET 1 LIMIT 1"),
      "{\"b\": null, \"t\": null, \"bs\": null, \"id\": 2, \"ts\": null, \"name\": null}");
  // A cast of somebody whom our owner trusts is used.
  run("CREATE TYPE public.money_of AS (amount int); CREATE TYPE public.colour AS ENUM ('red');"
      "CREATE FUNCTION public.colour_json(public.colour) RETURNS json LANGUAGE sql AS"
      " $$SELECT json_build_object('colour', $1::text)$$;"
      "CREATE CAST (public.colour AS json) WITH FUNCTION public.colour_json(public.colour);"
      "CREATE TABLE cars (c public.colour)");
  run("SELECT spillway.watch('cars')");
  run("INSERT INTO cars VALUES ('red')");
  EXPECT_EQ(
      database.value("SELECT payload -> 'after' FROM spillway.events ORDER BY id DESC LIMIT 1"),
      "{\"c\": {\"colour\": \"red\"}}");
}

TEST_F(Watch, SurvivesDumpAndRestore) {
  run("CREATE SCHEMA shop; CREATE TABLE shop.items (id int PRIMARY KEY, status text)");
  run("INSERT INTO shop.items VALUES (1, 'new')");
  run("SELECT spillway.watch('shop.items', E'Ünï''\\\\', columns => '{id,status}', changed => "
      "'status',"
      " changed_to => 'null', stream => 'it''s:{id}', condition => '$.op == \"update\"')");
  const std::string before = database.value("SELECT watches::text FROM spillway.watches");
  const auto dump = test::scratch_folder() / "watch.sql";
  const auto dumped = test::run({"pg_dump", "--dbname", database.url(), "--file", dump.string()});
  ASSERT_EQ(dumped.exit_code, 0) << dumped.errors;
  Database restored(false);
  const auto loaded =
      test::run({"psql", restored.url(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump.string()});
  ASSERT_EQ(loaded.exit_code, 0) << loaded.errors;
  EXPECT_EQ(restored.value("SELECT watches::text FROM spillway.watches"), before);
  EXPECT_EQ(restored.number("SELECT count(*) FROM spillway.events"), 0);
  restored.query("UPDATE shop.items SET status = NULL");
  EXPECT_EQ(restored.value(
                "SELECT concat_ws(' ', type, stream, payload -> 'after') FROM spillway.events"),
            "Ünï'\\ it's:1 {\"id\": 1, \"status\": null}");
}

}  // namespace
}  // namespace spillway
