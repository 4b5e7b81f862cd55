// What is kept, and what those see who come for what is not.
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

// `events` events of `each` broadcasts on Talk:a, numbered from `first` in the payload of the
// event.
void enqueue(Database& database, int first, int events, int each) {
  json steps = json::array();
  for (int i = 0; i < each; ++i)
    steps.push_back(
        {{"tell", {{"channel", "Talk:a"}, {"event_type", "said"}, {"data", {{"i", i}}}}}});
  database.query("INSERT INTO spillway.events (type, payload) SELECT 'Told', " +
                 sql_quoted(json{{"do", steps}}.dump()) + " FROM generate_series(" +
                 std::to_string(first) + ", " + std::to_string(first + events - 1) + ")");
}

long long floor_of(Database& database) {
  return database.number("SELECT floor FROM spillway.stream_head");
}
long long head_of(Database& database) {
  return database.number("SELECT last FROM spillway.stream_head");
}

TEST(Retention, a_small_outbox_under_load_stays_small_and_live_subscribers_lose_nothing) {
  Database database;
  Worker worker(database.url(), {"--handlers", test_handlers(), "--runners", "2", "--batch", "50",
                                 "--keep-broadcasts-count", "1000"});
  worker.wait_until_ready();
  Worker mouth(database.url(), {"--roles", "sse", "--keep-broadcasts-count", "1000"});
  mouth.wait_until_ready();
  Subscriber here("/sse?channel=Talk:a", [&] { return worker.port(); });
  Subscriber there("/sse?channel=Talk:*", [&] { return mouth.port(); });
  ASSERT_TRUE(eventually([&] { return here.connected() && there.connected(); }));
  const std::string early = database.value("SELECT epoch || '-0' FROM spillway.stream_head");

  constexpr int events = 3000;
  constexpr int each = 10;
  for (int first = 0; first < events; first += 100) enqueue(database, first, 100, each);
  ASSERT_TRUE(eventually([&] { return drained(database); }, 90s));
  EXPECT_EQ(head_of(database), events * each);
  for (Subscriber* subscriber : {&here, &there}) {
    EXPECT_TRUE(eventually([&] { return subscriber->count() == events * each; }, 60s));
    const auto seen = subscriber->seen();
    for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i].position, i + 1);
    EXPECT_EQ(subscriber->surprises(), std::vector<std::string>{});
    EXPECT_EQ(subscriber->connections(), 1u);
  }

  // Partitions are of 100, or of what was written between two looks; the burst goes once as many as
  // are kept lie behind it.
  const auto kept = [&] { return database.number("SELECT count(*) FROM spillway.broadcasts"); };
  EXPECT_TRUE(eventually([&] { return floor_of(database) > 0; }, 60s));
  for (int first = 0; first < 150; first += 10) {
    enqueue(database, first, 10, each);
    ASSERT_TRUE(eventually([&] { return drained(database); }));
  }
  EXPECT_TRUE(eventually([&] { return floor_of(database) >= events * each - 1000; }, 60s));
  EXPECT_TRUE(eventually([&] { return kept() < 5000; }, 60s)) << kept();
  // A server that has nothing in memory: everything comes from the table.
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(mouth.stop(), 0);
  EXPECT_EQ(kept(), head_of(database) - floor_of(database));
  EXPECT_LT(database.number("SELECT count(*) FROM spillway.broadcast_partitions"), 30);
  Worker fresh(database.url(), {"--roles", "sse"});
  fresh.wait_until_ready();
  const auto floor = floor_of(database);
  const auto head = head_of(database);
  const std::string epoch = early.substr(0, early.find('-') + 1);
  {
    SseClient late(fresh.port(), "/sse?channel=Talk:a", early);
    auto frame = late.next();
    ASSERT_TRUE(frame);
    if (frame->event.empty()) frame = late.next();  // the one that says it is connected
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->event, "reset");
    const json reset = json::parse(frame->data);
    EXPECT_EQ(reset.at("reason"), "expired");
    EXPECT_EQ(reset.at("floor"), std::to_string(floor));
    EXPECT_EQ(frame->position(), static_cast<std::uint64_t>(head));
  }
  SseClient in_time(fresh.port(), "/sse?channel=Talk:a", epoch + std::to_string(floor));
  ASSERT_TRUE(in_time.next());
  for (auto position = floor + 1; position <= head; ++position) {
    const auto frame = in_time.next();
    ASSERT_TRUE(frame) << position;
    ASSERT_EQ(frame->position(), static_cast<std::uint64_t>(position));
    ASSERT_EQ(frame->event, "said");
  }
}

TEST(Retention, a_server_that_was_away_for_longer_than_is_kept_resets_its_clients) {
  Database database;
  Worker hands(database.url(), {"--handlers", test_handlers()});
  hands.wait_until_ready();
  Worker mouth(database.url(), {"--roles", "sse"});
  mouth.wait_until_ready();
  SseClient client(mouth.port(), "/sse?channel=Talk:a");
  ASSERT_TRUE(client.next());
  enqueue(database, 0, 1, 5);
  std::string id;
  for (int i = 0; i < 5; ++i) {
    const auto frame = client.next();
    ASSERT_TRUE(frame);
    id = frame->id;
  }
  ASSERT_TRUE(id.ends_with("-5")) << id;

  mouth.process().signal(SIGSTOP);
  enqueue(database, 0, 20, 10);
  ASSERT_TRUE(eventually([&] { return head_of(database) == 205; }));
  // All that is there is closed, and dropped.
  EXPECT_TRUE(eventually(
      [&] { return database.value("SELECT spillway.extend_broadcasts(100, 'infinity')") == "f"; }));
  EXPECT_TRUE(eventually([&] {
    database.value("SELECT spillway.drop_broadcasts('infinity', NULL, NULL)");
    return floor_of(database) == 205;
  }));
  enqueue(database, 0, 1, 3);
  ASSERT_TRUE(eventually([&] { return head_of(database) == 208; }));
  mouth.process().signal(SIGCONT);

  // Cut off rather than sent on with a gap; whoever comes back is told.
  EXPECT_FALSE(client.next(20s));
  EXPECT_TRUE(client.ended());
  SseClient again(mouth.port(), "/sse?channel=Talk:a", id);
  auto frame = again.next();
  ASSERT_TRUE(frame);
  if (frame->event.empty()) frame = again.next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->event, "reset");
  EXPECT_EQ(json::parse(frame->data).at("floor"), "205");
  enqueue(database, 0, 1, 1);
  const auto live = again.next();
  ASSERT_TRUE(live);
  EXPECT_EQ(live->position(), 209u);
}

TEST(Retention, prune_removes_what_is_old_and_says_how_much) {
  Database database;
  database.query(
      "INSERT INTO spillway.events (type, created_at, execute_at) SELECT 'A', t, t FROM"
      " generate_series(1, 120) g, LATERAL (SELECT now() - interval '40 days' AS t) x;"
      "DELETE FROM spillway.queue WHERE event_id <= 110;"
      "INSERT INTO spillway.events (type) VALUES ('A');"
      "INSERT INTO spillway.broadcasts (position, channel, event_type, data, created_at) SELECT g, "
      "'c',"
      " 'E', '1', now() - interval '40 days' FROM generate_series(1, 50) g;"
      "UPDATE spillway.stream_head SET last = 50");
  const auto prune = [&](std::vector<std::string> options) {
    std::vector<std::string> command{spillway_binary(), "prune", "--database-url", database.url()};
    command.insert(command.end(), options.begin(), options.end());
    return run(command);
  };
  for (const auto& [options, message] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "spillway prune --older-than 30d"},
           {{"--older-than", "forever"}, "spillway prune --older-than 30d"},
           {{"--older-than", "30"}, "write an age with its unit, such as 30d, 12h or 90m"},
           {{"--older-than", "0d"}, "write an age with its unit"},
           {{"--older-than", "30x"}, "write a duration such as"},
           {{"--older-than", "30d", "--batch", "0"}, "--batch"}}) {
    const auto finished = prune(options);
    EXPECT_EQ(finished.exit_code, 2);
    EXPECT_NE(finished.errors.find(message), std::string::npos) << finished.errors;
  }
  const auto dry = prune({"--older-than", "30d", "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.errors;
  EXPECT_NE(dry.output.find("events      110 done"), std::string::npos) << dry.output;
  EXPECT_NE(dry.output.find("broadcasts  50 in whole partitions"), std::string::npos) << dry.output;
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 121);

  const auto real = prune({"--older-than", "30d", "--batch", "30", "--share", "100"});
  EXPECT_EQ(real.exit_code, 0) << real.errors;
  EXPECT_NE(real.output.find("events      110 done"), std::string::npos) << real.output;
  EXPECT_NE(real.output.find("broadcasts  50 in whole partitions"), std::string::npos)
      << real.output;
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 11);
  EXPECT_EQ(floor_of(database), 50);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 0);

  for (const char* bad : {"--keep-broadcasts=3", "--keep-broadcasts-count=5", "--keep-events=x"}) {
    const auto refused = run({spillway_binary(), "run", "--database-url", database.url(), bad});
    EXPECT_EQ(refused.exit_code, 2) << bad;
    EXPECT_NE(refused.errors.find("write "), std::string::npos) << refused.errors;
  }
}

}  // namespace
}  // namespace spillway::test
