// A worker with nothing but a directory of jq files.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/process.hpp"
#include "tests/support/sse_client.hpp"

namespace spillway::test {
namespace {

std::string read(const std::string& file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

class JqWorkerTest : public testing::Test {
 protected:
  JqWorkerTest() {
    folder = scratch_folder() / testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder);
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name) << text;
  }

  void insert(const std::string& type, const std::string& payload = "{}") {
    database.query("INSERT INTO spillway.events (type, payload) VALUES ('" + type + "', '" +
                   payload + "')");
  }

  // What has become of the events, in their order.
  std::string statuses() {
    return database.value(
        "SELECT string_agg(status, ' ' ORDER BY event_id) FROM spillway.event_status");
  }

  bool logged(Worker& worker, const std::string& text) {
    return eventually([&] { return worker.process().errors().find(text) != std::string::npos; });
  }

  Database database;
  std::filesystem::path folder;
};

// A stream that has begun; one that is opened before the server knows its head is asked to come
// back.
SseClient subscribe(int port, const std::string& target) {
  std::optional<SseClient> client;
  const bool begun = eventually([&] {
    client.emplace(port, target);
    return client->next().has_value();
  });
  if (!begun) throw std::runtime_error("no stream at " + target + ": " + client->head());
  return std::move(*client);
}

// The next frame that is no greeting.
Frame event_of(SseClient& client) {
  for (;;) {
    const auto frame = client.next();
    if (!frame) return {};
    if (!frame->event.empty()) return *frame;
  }
}

TEST_F(JqWorkerTest, TheExampleNeedsNoCompiler) {
  database.query(read(EXAMPLE_FOLDER "/schema.sql"));
  Worker worker(database.url(), {"--handlers", EXAMPLE_FOLDER "/handlers"});
  worker.wait_until_ready();
  SseClient item = subscribe(worker.port(), "/sse/CommentStream/item:42");
  SseClient owner = subscribe(worker.port(), "/sse/NotificationStream/user:1");
  database.query(
      "INSERT INTO spillway.events (type, payload, context) VALUES ('CommentAdded',"
      R"( '{"comment_id":"c1","item_id":"42","author_name":"Ada","text":"hi"}',)"
      R"( '{"item_owner_id":"1"}'))");
  const Frame comment = event_of(item);
  EXPECT_EQ(comment.event, "CommentAdded");
  EXPECT_EQ(comment.data, R"({"author_name":"Ada","comment_id":"c1","item_id":"42","text":"hi"})");
  const Frame note = event_of(owner);
  EXPECT_EQ(note.event, "NewCommentNotification");
  EXPECT_EQ(note.data, R"({"author_name":"Ada","comment_id":"c1","item_id":"42","text":"hi"})");
  EXPECT_EQ(database.value("SELECT item_id || ' ' || author_name || ' ' || text FROM item_comments"
                           " WHERE comment_id = 'c1'"),
            "42 Ada hi");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(JqWorkerTest, AHandlerThatFailsOrReturnsNonsenseFailsItsEventOnly) {
  database.query("CREATE TABLE done (id bigint)");
  write("Good.jq", R"([{Insert: {table: "done", data: {id: .id}}}])");
  write("Throws.jq", "error(\"not \" + .payload.what)");
  write("Refuses.jq", R"({error: "not today"})");
  write("Nonsense.jq", R"("what?")");
  write("Nothing.jq", "empty");
  write("Unknown.jq", R"([{Insert: {table: "nowhere", data: {}}}])");
  Worker worker(database.url(), {"--handlers", folder.string(), "--max-attempts", "1"});
  worker.wait_until_ready();
  for (const char* type : {"Good", "Throws", "Good", "Refuses", "Nonsense", "Nothing", "Unknown"})
    insert(type, R"({"what": "now"})");
  insert("Good");
  ASSERT_TRUE(eventually([&] { return statuses() == "done dead done dead dead dead dead done"; }))
      << statuses();
  EXPECT_EQ(database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM done"), "1 3 8");
  const auto error = [&](int id) {
    return database.value("SELECT error FROM spillway.dead_letters WHERE event_id = " +
                          std::to_string(id));
  };
  EXPECT_EQ(error(2), "event 2 (Throws): the handler threw: Throws.jq: not now");
  EXPECT_EQ(error(4), "event 4 (Refuses): the handler threw: not today");
  EXPECT_EQ(error(5),
            "event 5 (Nonsense): the result must be a list of effects, "
            R"({"effects":[…],"response":…} or {"error":"why"}, not a string)");
  EXPECT_EQ(error(6),
            "event 6 (Nothing): Nothing.jq: the program gave no result; write [] for no effects");
  EXPECT_EQ(error(7),
            "event 7 (Unknown): effect 0 (Insert), field \"table\": there is no table \"nowhere\"");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(JqWorkerTest, DeclaredReadsArriveAsDataAndSeeEarlierEventsOfTheStream) {
  database.query("CREATE TABLE stock (item text PRIMARY KEY, left_over int)");
  database.query("INSERT INTO stock VALUES ('pen', 2)");
  write("Taken.jq", R"(if .data[0].left_over > 0
      then [{Update: {table: "stock", set: {left_over: (.data[0].left_over - 1)},
                      where: {item: .payload.item}}}]
      else {error: "no \(.payload.item) left"} end)");
  write("Taken.sql", "SELECT left_over FROM stock WHERE item = event->'payload'->>'item'");
  database.query(
      "INSERT INTO spillway.events (type, stream, payload)"
      " SELECT 'Taken', 'item:pen', '{\"item\": \"pen\"}' FROM generate_series(1, 3)");
  Worker worker(database.url(), {"--handlers", folder.string(), "--max-attempts", "1"});
  worker.wait_until_ready();
  ASSERT_TRUE(eventually([&] { return statuses() == "done done dead"; })) << statuses();
  EXPECT_EQ(database.value("SELECT left_over FROM stock"), "0");
  EXPECT_EQ(database.value("SELECT error FROM spillway.dead_letters"),
            "event 3 (Taken): the handler threw: no pen left");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(JqWorkerTest, AHangupReloadsAndABrokenFileLeavesTheOldHandlersInForce) {
  database.query("CREATE TABLE seen (version int)");
  const auto handler = [](const std::string& version) {
    return "[{Insert: {table: \"seen\", data: {version: " + version + "}}}]\n";
  };
  const auto versions = [&] {
    return database.value("SELECT string_agg(version::text, ' ' ORDER BY version) FROM seen");
  };
  write("Seen.jq", handler("1"));
  Worker worker(database.url(), {"--handlers", folder.string()});
  worker.wait_until_ready();
  insert("Seen");
  ASSERT_TRUE(eventually([&] { return versions() == "1"; }));

  write("Seen.jq", "[]\n| [}");
  worker.process().signal(SIGHUP);
  ASSERT_TRUE(logged(worker, "SIGHUP: the handlers stay as they were: --handlers " +
                                 (folder / "Seen.jq").string() +
                                 ": line 2: syntax error, unexpected character"))
      << worker.process().errors();
  insert("Seen");
  ASSERT_TRUE(eventually([&] { return versions() == "1 1"; }));

  write("Seen.jq", handler("2"));
  write("Seen.sql", "SELECT * FROM missing");
  worker.process().signal(SIGHUP);
  ASSERT_TRUE(logged(worker, "SIGHUP: the handlers stay as they were: --handlers " +
                                 (folder / "Seen.sql").string() +
                                 ": the read of \"Seen\" must be one SELECT that may use `event` "
                                 "(jsonb): relation \"missing\" does not exist"))
      << worker.process().errors();
  insert("Seen");
  ASSERT_TRUE(eventually([&] { return versions() == "1 1 1"; }));

  std::filesystem::remove(folder / "Seen.sql");
  write("New.jq", handler("3"));
  worker.process().signal(SIGHUP);
  ASSERT_TRUE(logged(worker, "SIGHUP: handlers reloaded, 2 event types"))
      << worker.process().errors();
  insert("Seen");
  insert("New");
  ASSERT_TRUE(eventually([&] { return versions() == "1 1 1 2 3"; })) << versions();
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(JqWorkerTest, WhatDoesNotCompileOrPrepareStopsTheStartWithCode2) {
  const auto start = [&] {
    return run({spillway_binary(), "run", "--database-url", database.url(), "--listen",
                "127.0.0.1:0", "--handlers", folder.string()});
  };
  write("A.jq", "nothing_like_this");
  Finished finished = start();
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_EQ(finished.errors, "spillway: --handlers " + (folder / "A.jq").string() +
                                 ": line 1: nothing_like_this/0 is not defined\n");
  write("A.jq", "[]");
  write("A.sql", "DELETE FROM spillway.events");
  finished = start();
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_EQ(finished.errors,
            "spillway: --handlers " + (folder / "A.sql").string() +
                ": the read of \"A\" must be one SELECT that may use `event` (jsonb): syntax error "
                "at or near \"FROM\"\n");
}

}  // namespace
}  // namespace spillway::test
