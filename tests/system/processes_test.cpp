// Several processes on one database: whoever commits a broadcast, everybody's subscribers see it.
#include <gtest/gtest.h>
#include <signal.h>

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

json tell(const std::string& channel, const json& data, bool ephemeral) {
  return {{"tell",
           {{"channel", channel},
            {"event_type", ephemeral ? "typing" : "said"},
            {"data", data},
            {"ephemeral", ephemeral}}}};
}

void insert(Database& database, const std::string& stream, std::initializer_list<json> steps) {
  const json payload = {{"do", json(json::array_t(steps))}};
  database.query("INSERT INTO spillway.events (type, stream, payload) VALUES ('Told', " +
                 sql_quoted(stream) + ", " + sql_quoted(payload.dump()) + ")");
}

std::string next_data(SseClient& client) {
  const auto frame = client.next();
  return frame ? frame->data : "nothing";
}

long long events_done(Worker& worker) {
  const std::string log = worker.process().errors();
  std::smatch match;
  return std::regex_search(log, match, std::regex("stopped; (\\d+) events done"))
             ? std::stoll(match[1])
             : -1;
}

std::vector<Seen> only(const std::vector<Seen>& frames, const std::string& event) {
  std::vector<Seen> some;
  for (const Seen& frame : frames)
    if (frame.event == event) some.push_back(frame);
  return some;
}

TEST(Processes, see_each_others_broadcasts_in_commit_order) {
  Database database;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::unique_ptr<Subscriber>> subscribers;
  for (int i = 0; i < 2; ++i) {
    workers.push_back(std::make_unique<Worker>(
        database.url(), std::vector<std::string>{"--handlers", test_handlers(), "--runners", "2",
                                                 "--batch", "20"}));
    workers.back()->wait_until_ready();
    subscribers.push_back(std::make_unique<Subscriber>(
        "/sse?channel=Talk:*", [port = workers.back()->port()] { return port; }));
    ASSERT_TRUE(eventually([&] { return subscribers.back()->connected(); }));
  }
  constexpr int rounds = 300;
  for (int n = 1; n <= rounds; ++n)
    for (const char* room : {"a", "b", "c", "d", "e"})
      insert(database, room,
             {tell(std::string("Talk:") + room, n, false),
              tell(std::string("Talk:") + room, {{"who", room}, {"n", n}}, true),
              tell("Elsewhere", n, false), tell("Elsewhere", n, true)});
  ASSERT_TRUE(eventually([&] { return drained(database); }, 60s));

  const auto durable = broadcasts_where(database, "channel LIKE 'Talk:%'");
  ASSERT_EQ(durable.size(), 5u * rounds);
  for (const auto& subscriber : subscribers) {
    EXPECT_TRUE(eventually([&] { return subscriber->count() >= 2 * durable.size(); }));
    const auto seen = subscriber->seen();
    EXPECT_EQ(first_difference(only(seen, "said"), durable), "");
    // Each ephemeral one stands behind the durable one of its event, and carries its position.
    ASSERT_EQ(seen.size(), 2 * durable.size());
    for (std::size_t i = 0; i < seen.size(); i += 2) {
      ASSERT_EQ(seen[i].event, "said") << i;
      ASSERT_EQ(seen[i + 1].event, "typing") << i;
      ASSERT_EQ(seen[i + 1].position, seen[i].position) << i;
      ASSERT_EQ(std::to_string(json::parse(seen[i + 1].data).at("n").get<int>()), seen[i].data)
          << i;
    }
    EXPECT_EQ(subscriber->surprises(), std::vector<std::string>{});
    EXPECT_EQ(subscriber->connections(), 1u);
  }
  EXPECT_EQ(first_difference(subscribers[0]->seen(), subscribers[1]->seen()), "");

  // Both had a part in it, so each one's subscribers saw what the other one committed.
  long long together = 0;
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->stop(), 0);
    EXPECT_GT(events_done(*worker), 0) << worker->process().errors();
    together += events_done(*worker);
  }
  EXPECT_EQ(together, 5 * rounds);
}

TEST(Processes, show_a_broadcast_to_nobody_before_its_commit) {
  Database database;
  database.query(
      "CREATE TABLE good (n int);"
      "CREATE FUNCTION wait_for_7() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END';"
      "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON good DEFERRABLE INITIALLY DEFERRED"
      " FOR EACH ROW EXECUTE FUNCTION wait_for_7()");
  Worker hands(database.url(), {"--handlers", test_handlers()});
  hands.wait_until_ready();
  Worker mouth(database.url(), {"--roles", "sse"});
  mouth.wait_until_ready();
  SseClient here(hands.port(), "/sse/Talk/a");
  SseClient there(mouth.port(), "/sse/Talk/a");
  ASSERT_TRUE(here.next());
  ASSERT_TRUE(there.next());
  PgConnection gate(database.target());
  gate.exec("SELECT pg_advisory_lock(7)");
  insert(database, "a",
         {{{"insert", {{"table", "good"}, {"data", {{"n", 1}}}}}}, tell("Talk:a", "done", false)});
  ASSERT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND objid = 7") == 1;
  }));
  EXPECT_FALSE(here.next(300ms));
  EXPECT_FALSE(there.next(100ms));
  gate.exec("SELECT pg_advisory_unlock(7)");
  EXPECT_EQ(next_data(here), "done");
  EXPECT_EQ(next_data(there), "done");
}

TEST(Processes, with_one_role_each_make_a_worker_and_a_stream_server) {
  Database database;
  Process hands({spillway_binary(), "run", "--roles", "worker", "--database-url", database.url(),
                 "--handlers", test_handlers()});
  Worker mouth(database.url(), {"--roles", "sse"});
  mouth.wait_until_ready();
  SseClient client(mouth.port(), "/sse/Talk/a");
  const auto connected = client.next();
  ASSERT_TRUE(connected);
  insert(database, "a",
         {tell("Talk:a", "one", false), tell("Talk:a", "two", true), tell("Talk:b", 0, false),
          tell("Talk:a", {{"three", 3}}, false)});
  std::vector<std::string> data;
  std::vector<std::uint64_t> positions;
  for (int i = 0; i < 3; ++i) {
    const auto frame = client.next();
    ASSERT_TRUE(frame) << hands.errors() << mouth.process().errors();
    data.push_back(frame->data);
    positions.push_back(frame->position());
  }
  EXPECT_EQ(data, (std::vector<std::string>{"one", "two", R"({"three":3})"}));
  EXPECT_EQ(positions, (std::vector<std::uint64_t>{1, 1, 3}));
  // Who comes later gets what lasts, and not what does not.
  SseClient late(mouth.port(), "/sse/Talk/a", connected->id);
  ASSERT_TRUE(late.next());
  EXPECT_EQ(next_data(late), "one");
  EXPECT_EQ(next_data(late), R"({"three":3})");
  insert(database, "a", {tell("Talk:a", "four", false)});
  EXPECT_EQ(next_data(late), "four");
  EXPECT_EQ(next_data(client), "four");

  hands.signal(SIGTERM);
  EXPECT_EQ(hands.wait(), 0) << hands.errors();
  EXPECT_EQ(mouth.stop(), 0);
  EXPECT_EQ(hands.errors().find("listening"), std::string::npos) << "--roles worker serves nothing";
  EXPECT_NE(mouth.process().errors().find("stopped; 0 events done"), std::string::npos);
}

TEST(Processes, that_only_serve_streams_leave_events_alone) {
  Database database;
  Worker mouth(database.url(), {"--roles", "sse"});
  mouth.wait_until_ready();
  insert(database, "a", {tell("Talk:a", 1, false)});
  EXPECT_TRUE(eventually([&] { return http(mouth.port(), "GET", "/readyz").status == 200; }));
  EXPECT_EQ(http(mouth.port(), "POST", "/events", R"({"type":"Told"})").status, 202);
  EXPECT_EQ(mouth.stop(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 2);
}

TEST(Processes, take_over_the_streams_of_one_that_dies_between_commit_and_delivery) {
  // The worker that commits is killed again and again; the stream server of the other process must
  // find what was committed in the database, whether or not it was told.
  Database database;
  Worker mouth(database.url(), {"--roles", "sse"});
  mouth.wait_until_ready();
  Subscriber subscriber("/sse/Talk/a", [&] { return mouth.port(); });
  ASSERT_TRUE(eventually([&] { return subscriber.connected(); }));
  std::uint64_t total = 0;
  for (int round = 0; round < 8; ++round) {
    Process hands({spillway_binary(), "run", "--roles", "worker", "--database-url", database.url(),
                   "--handlers", test_handlers(), "--batch", "5"});
    for (int n = 0; n < 40; ++n, ++total) insert(database, "a", {tell("Talk:a", n, false)});
    ASSERT_TRUE(eventually([&] {
      return database.number("SELECT last FROM spillway.stream_head") >=
             static_cast<long long>(total) - 20;
    }));
    hands.signal(SIGKILL);
    hands.wait();
  }
  const auto committed = [&] { return broadcasts_where(database, "true"); };
  EXPECT_TRUE(eventually([&] { return subscriber.count() == committed().size(); }));
  EXPECT_EQ(first_difference(subscriber.seen(), committed()), "");
  EXPECT_GE(subscriber.count(), total - 40);
  EXPECT_EQ(subscriber.connections(), 1u);
}

}  // namespace
}  // namespace spillway::test
