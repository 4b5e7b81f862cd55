// Latest channels, quiet channels and coalescing, with the real binary.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

// One broadcast from SQL; travels as an event.
void tell(Database& database, const std::string& channel, const std::string& data,
          bool ephemeral = false) {
  database.query("SELECT spillway.broadcast(" + sql_quoted(channel) + ", 'v', " + sql_quoted(data) +
                 ", " + (ephemeral ? "true" : "false") + ")");
}

std::string next_of(SseClient& client) {
  const auto frame = client.next();
  if (!frame) return client.ended() ? "ended" : "nothing";
  return frame->event + " " + frame->data + " " + std::to_string(frame->position());
}

// All that was broadcast is closed and dropped, by a process that was told nothing.
void drop_all(Database& database) {
  database.query("UPDATE spillway.broadcasts SET created_at = now() - interval '2 hours'");
  const Finished pruned =
      run({spillway_binary(), "prune", "--older-than", "1h"}, {{"DATABASE_URL", database.url()}});
  ASSERT_EQ(pruned.exit_code, 0) << pruned.errors;
  ASSERT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 0);
}

TEST(Latest, a_late_joiner_is_shown_the_state_through_restarts_other_processes_and_drops) {
  Database database;
  Worker worker(database.url(), {"--handlers", test_handlers(), "--latest", "Metrics:*"});
  worker.wait_until_ready();
  // One after the other: channels have no order among each other.
  const std::vector<std::pair<std::string, std::string>> told = {{"Metrics:cpu", "1"},
                                                                 {"Metrics:cpu", "2"},
                                                                 {"Metrics:cpu", "3"},
                                                                 {"Metrics:disk", "7"},
                                                                 {"Talk:a", "8"}};
  for (const auto& [channel, value] : told) {
    tell(database, channel, value);
    ASSERT_TRUE(eventually([&] { return drained(database); }));
  }
  {
    SseClient client(worker.port(), "/sse/Metrics/cpu");
    ASSERT_EQ(client.next()->position(), 5u);
    EXPECT_EQ(next_of(client), "v 3 5");
    tell(database, "Metrics:cpu", "4");
    EXPECT_EQ(next_of(client), "v 4 6");
    tell(database, "Metrics:cpu", "5", true);
    EXPECT_EQ(next_of(client), "v 5 6");
  }
  // Another thread of the server may be told a moment later.
  EXPECT_TRUE(eventually([&] {
    SseClient client(worker.port(), "/sse/Metrics/cpu");
    return client.next() && next_of(client) == "v 5 6";
  })) << "the ephemeral one is the newest";
  // Another process has none of it in memory.
  Worker mouth(database.url(), {"--roles", "sse", "--latest", "Metrics:*"});
  mouth.wait_until_ready();
  const std::string epoch = database.value("SELECT epoch FROM spillway.stream_head");
  {
    SseClient client(mouth.port(), "/sse?channel=Metrics:*&channel=Talk:a", epoch + "-1");
    ASSERT_EQ(client.next()->position(), 1u);
    EXPECT_EQ(next_of(client), "v 7 1");
    EXPECT_EQ(next_of(client), "v 4 1");
    EXPECT_EQ(next_of(client), "v 8 5") << "the ordinary channel in full";
    tell(database, "Metrics:disk", "9");
    EXPECT_EQ(next_of(client), "v 9 7");
  }
  ASSERT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM spillway.latest_channels") == 1;
  })) << "who drops knows what to keep";
  EXPECT_EQ(mouth.stop(), 0);
  EXPECT_EQ(worker.stop(), 0);
  drop_all(database);
  Worker fresh(database.url(), {"--roles", "sse", "--latest", "Metrics:*"});
  fresh.wait_until_ready();
  SseClient client(fresh.port(), "/sse?channel=Metrics:*");
  ASSERT_EQ(client.next()->position(), 7u);
  EXPECT_EQ(next_of(client), "v 4 7");
  EXPECT_EQ(next_of(client), "v 9 7");
}

TEST(Latest, a_quiet_channel_goes_on_where_a_busy_one_is_reset) {
  Database database;
  Worker worker(database.url(), {"--handlers", test_handlers()});
  worker.wait_until_ready();
  tell(database, "Talk:quiet", "1");
  ASSERT_TRUE(eventually([&] { return drained(database); }));
  for (int i = 2; i <= 6; ++i) tell(database, "Talk:busy", std::to_string(i));
  ASSERT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(worker.stop(), 0);
  drop_all(database);
  Worker fresh(database.url(), {"--handlers", test_handlers()});
  fresh.wait_until_ready();
  const std::string epoch = database.value("SELECT epoch FROM spillway.stream_head");
  SseClient quiet(fresh.port(), "/sse?channel=Talk:quiet", epoch + "-1");
  SseClient busy(fresh.port(), "/sse?channel=Talk:busy", epoch + "-1");
  ASSERT_EQ(quiet.next()->position(), 1u);
  ASSERT_TRUE(busy.next());
  EXPECT_EQ(busy.next()->event, "reset");
  tell(database, "Talk:quiet", "7");
  EXPECT_EQ(next_of(quiet), "v 7 7");
}

TEST(Latest, a_busy_channel_loses_nothing_by_being_held_back) {
  Database database;
  Worker worker(database.url(), {"--handlers", test_handlers(), "--coalesce-ms", "50"});
  worker.wait_until_ready();
  SseClient client(worker.port(), "/sse?channel=Talk:a&channel=Talk:b");
  ASSERT_TRUE(client.next());
  database.query(
      "DO $$BEGIN FOR i IN 1..300 LOOP PERFORM spillway.broadcast('Talk:' || CASE WHEN i % 7 = 0 "
      "THEN"
      " 'b' ELSE 'a' END, 'v', to_jsonb(i)); COMMIT; END LOOP; END$$");
  for (std::uint64_t position = 1; position <= 300; ++position) {
    const auto frame = client.next();
    ASSERT_TRUE(frame) << position;
    ASSERT_EQ(frame->position(), position);
  }
}

TEST(Latest, a_pattern_that_means_nothing_is_refused) {
  Database database;
  const Finished refused =
      run({spillway_binary(), "run", "--latest", "Metrics*", "--listen", "127.0.0.1:0"},
          {{"DATABASE_URL", database.url()}});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.errors.find("--latest \"Metrics*\" has a \"*\" where it means nothing"),
            std::string::npos)
      << refused.errors;
}

}  // namespace
}  // namespace spillway::test
