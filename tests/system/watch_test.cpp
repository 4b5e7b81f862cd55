// Row changes of a watched table, through a real worker.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;

// Writes down each change in the order it was handled, and tells it.
constexpr const char* handler = R"jq(
.payload as $change | ($change.after // $change.before) as $row |
[{Insert: {table: "handled", data: {event_id: .id, op: $change.op, item: $row.id, stream: .stream,
                                    before: $change.before.n, after: $change.after.n}}},
 (if $change.op == "delete"
  then {SSEBroadcast: {channel: "Items:all", event_type: "Gone", data: {id: $row.id}}} else empty end)]
)jq";

fs::path handlers(const std::string& type) {
  const fs::path folder = scratch_folder() / "watch_handlers";
  fs::create_directories(folder);
  std::ofstream(folder / (type + ".jq")) << handler;
  return folder;
}

TEST(Watch, bulk_changes_reach_a_handler_once_each_and_in_order) {
  Database database;
  database.query(
      "CREATE TABLE items (id int PRIMARY KEY, n int);"
      "CREATE TABLE handled (place bigserial, event_id bigint, op text, item int, stream text,"
      " before int, after int);"
      // One row for each statement that puts events into the queue.
      "CREATE TABLE queued (events bigint);"
      "CREATE FUNCTION count_queued() RETURNS trigger LANGUAGE plpgsql AS"
      " $$BEGIN INSERT INTO public.queued SELECT count(*) FROM added; RETURN NULL; END$$;"
      "CREATE TRIGGER count_queued AFTER INSERT ON spillway.queue REFERENCING NEW TABLE AS added"
      " FOR EACH STATEMENT EXECUTE FUNCTION count_queued()");
  database.query("SELECT spillway.watch('items', 'ItemChanged', stream => 'item:{id}')");
  Worker worker(database.url(), {"--handlers", handlers("ItemChanged"), "--runners", "2"});
  worker.wait_until_ready();

  // While the worker is at it: the second change of an item must not overtake its first.
  database.query("COPY items (id) FROM PROGRAM 'seq 1 10000'");
  database.query("UPDATE items SET n = id");
  database.query("UPDATE items SET n = n");
  database.query("UPDATE items SET n = -n WHERE id <= 100");
  database.query("DELETE FROM items WHERE id <= 10");
  EXPECT_EQ(database.value("SELECT string_agg(events::text, ' ') FROM queued WHERE events > 0"),
            "10000 10000 100 10");
  EXPECT_TRUE(eventually([&] { return drained(database); }, std::chrono::seconds(60)));

  EXPECT_EQ(database.value("SELECT string_agg(concat(op, ' ', n), ', ' ORDER BY op) FROM"
                           " (SELECT op, count(*) AS n FROM handled GROUP BY op) x"),
            "delete 10, insert 10000, update 10100");
  EXPECT_EQ(database.number("SELECT count(DISTINCT event_id) FROM handled"), 20110);
  EXPECT_EQ(database.number("SELECT count(*) FROM handled WHERE op = 'update' AND"
                            " (before, after) IS DISTINCT FROM (NULL, item)"
                            " AND (before, after) IS DISTINCT FROM (item, -item)"),
            0);
  EXPECT_EQ(database.number("SELECT count(*) FROM (SELECT event_id, lag(event_id) OVER"
                            " (PARTITION BY stream ORDER BY place) AS last FROM handled) x"
                            " WHERE last > event_id"),
            0);
  EXPECT_EQ(database.number("SELECT count(DISTINCT stream) FROM handled"), 10000);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts WHERE event_type = 'Gone'"),
            10);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace spillway::test
