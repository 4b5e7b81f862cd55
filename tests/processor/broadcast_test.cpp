// spillway.broadcast(): a broadcast from any transaction, as an event that only spillway handles.
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <random>

#include "processor/batch.hpp"
#include "processor/handler_error.hpp"
#include "processor/handlers_of_type.hpp"
#include "processor/load_handlers.hpp"
#include "processor/outbox_reader.hpp"
#include "sse/channel_name.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class BroadcastTest : public testing::Test {
 protected:
  void drain() {
    Batch batch(session, handlers, marks, {}, {}, 1);
    std::vector<int> lanes(lane_count);
    std::iota(lanes.begin(), lanes.end(), 0);
    while (batch.run(lanes, lane_count, 100, false).taken > 0) {
    }
  }
  Database database;
  PgConnection session{database.target()};
  std::shared_ptr<Registry> registry = std::make_shared<Registry>();
  HandlerSet handlers{registry};
  LaneMarks marks{lane_count};
};

TEST_F(BroadcastTest, GoesOutWithItsTransactionAndInOrder) {
  int seen = 0;
  registry->on("*", [&](const Event&) {
    ++seen;
    return Effects{};
  });
  PgConnection writer(database.target());
  writer.exec("BEGIN");
  EXPECT_EQ(writer.exec("SELECT spillway.broadcast('A:1', 'x', '{\"n\":1}')").integer(0, 0), 1);
  writer.exec("SELECT spillway.broadcast('A:1', '', '\"text\"')");
  writer.exec("COMMIT");
  writer.exec("BEGIN");
  writer.exec("SELECT spillway.broadcast('A:1', 'never')");
  writer.exec("ROLLBACK");
  writer.exec(
      "SELECT spillway.broadcast('A:2', 'x', NULL), spillway.broadcast('A:1', 'gone', '1', "
      "ephemeral => true)");
  drain();
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws(' ', position, channel, event_type, data), "
                           "', ' ORDER BY position) FROM spillway.broadcasts"),
            "1 A:1 x {\"n\":1}, 2 A:1  \"text\", 3 A:2 x null");
  EXPECT_EQ(database.value("SELECT concat_ws(' ', channel, event_type, data) FROM "
                           "spillway.ephemeral_broadcasts"),
            "A:1 gone 1");
  EXPECT_EQ(seen, 0) << "* is for the users' types";
}

TEST_F(BroadcastTest, RefusesWhatNoFrameCanCarry) {
  for (const auto& [call, why] :
       {std::pair{"''::text, 'x'", "channel is empty; write a name like CommentStream:item:42"},
        {"NULL, 'x'", "channel is empty; write a name like CommentStream:item:42"},
        {"E'a\\nb', 'x'", "channel contains a control character, such as a line break"},
        {"repeat('x', 256), 'x'", "channel is longer than 255 bytes"},
        {"'Room:*', 'x'",
         "channel is a pattern, which only subscribers can name; write one channel's name, such as "
         "CommentStream:item:42"},
        {"'a', NULL", "event_type is null; write '' for a broadcast without a type"},
        {"'a', E'x\\r'", "event_type contains a control character, such as a line break"},
        {"'a', repeat('ä', 128)", "event_type is longer than 255 bytes"}}) {
    try {
      session.exec(std::string("SELECT spillway.broadcast(") + call + ")");
      ADD_FAILURE() << call;
    } catch (const SqlError& error) {
      EXPECT_EQ(std::string(error.what()), std::string("spillway.broadcast: ") + why);
      EXPECT_EQ(error.sqlstate(), "22023");
    }
  }
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 0);
}

// One rule at both ends, in the same words: what SQL takes, an effect may name and somebody can
// subscribe to, and the other way round.
TEST_F(BroadcastTest, HasTheRuleThatEffectsAndSubscribersHave) {
  std::vector<std::string> names{"",
                                 "*",
                                 ":*",
                                 "A:*",
                                 "A:b:*",
                                 "A:*b",
                                 "A:* ",
                                 " A:b ",
                                 "A//b",
                                 "A:%41",
                                 "A:b+c",
                                 "größe:日本",
                                 "A:",
                                 ":",
                                 "\xC2\x85",
                                 "A:\xC2\xA0",
                                 "\x7F",
                                 "a\nb",
                                 "a\tb",
                                 "a\x01",
                                 "a\x1F",
                                 "'\"\\",
                                 "A:\xF0\x9F\x98\x80",
                                 std::string(255, 'x'),
                                 std::string(256, 'x'),
                                 std::string(253, 'x') + ":*",
                                 std::string(254, 'x') + ":*",
                                 "ä" + std::string(254, 'x')};
  std::mt19937 random(7);
  const std::vector<std::string> parts{"A", ":", "*", " ", "/", "é", "\x02", "\n", "x"};
  for (int i = 0; i < 300; ++i) {
    std::string name;
    for (std::size_t k = random() % 5; k > 0; --k) name += parts[random() % parts.size()];
    names.push_back(name);
  }
  std::size_t refused = 0;
  for (const std::string& name : names) {
    const std::string problem = sse::problem_of_channel(name);
    try {
      session.exec("SELECT spillway.broadcast(" + test::sql_quoted(name) + ", 'x')");
      EXPECT_EQ(problem, "") << "taken by SQL: " << name;
    } catch (const SqlError& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()), "spillway.broadcast: channel " + problem) << name;
    }
    if (problem.empty()) {
      EXPECT_EQ(sse::problem_of_subscription(name), "") << name;
      EXPECT_EQ(sse::pattern_prefix(name), std::nullopt) << name;
    }
  }
  EXPECT_GT(refused, 50u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"),
            static_cast<long long>(names.size() - refused));
  drain();
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
}

// An effect that names one is malformed: nothing of its event is applied, and its text says why.
// What was stored before there was such a rule goes on to be served.
TEST_F(BroadcastTest, ToAPatternIsADeadLetterAndOldOnesAreStillServed) {
  database.query(
      "INSERT INTO spillway.events (type, payload) VALUES ('spillway.Broadcast',"
      " '{\"channel\":\"Room:*\",\"event_type\":\"x\",\"data\":1}');"
      "UPDATE spillway.stream_head SET last = 1;"
      "INSERT INTO spillway.broadcasts (position, channel, event_type, data)"
      " VALUES (1, 'Room:*', 'x', '1')");
  drain();
  EXPECT_EQ(
      database.value("SELECT error FROM spillway.dead_letters"),
      "event 1 (spillway.Broadcast): effect 0 (SSEBroadcast), field \"channel\": is a pattern, "
      "which only subscribers can name; write one channel's name, such as "
      "CommentStream:item:42");
  const auto page = OutboxReader(session).read_page({{"Room:*"}, 0, 10});
  ASSERT_EQ(page.broadcasts.size(), 1u);
  EXPECT_EQ(page.broadcasts[0].channel, "Room:*");
}

TEST_F(BroadcastTest, AnEventOfThatTypeWithoutItsFieldsIsADeadLetter) {
  database.query("INSERT INTO spillway.events (type) VALUES ('spillway.Broadcast')");
  drain();
  EXPECT_EQ(database.value("SELECT error FROM spillway.dead_letters"),
            "event 1 (spillway.Broadcast): effect 0 (SSEBroadcast), field \"channel\": is missing");
}

TEST_F(BroadcastTest, NobodyElseMayHandleSuchTypes) {
  const auto folder = test::scratch_folder() / "own_types";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "spillway.Broadcast.jq") << "[]";
  try {
    static_cast<void>(load_handlers({folder.string()}));
    ADD_FAILURE();
  } catch (const HandlerError& error) {
    EXPECT_NE(std::string(error.what()).find("\"spillway.Broadcast\" begins with \"spillway.\""),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace spillway
