// spillway.broadcast(): a broadcast from any transaction, as an event that only spillway handles.
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "processor/batch.hpp"
#include "processor/handler_error.hpp"
#include "processor/handlers_of_type.hpp"
#include "processor/load_handlers.hpp"
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
        {"E'a\\nb', 'x'", "channel contains a control character"},
        {"repeat('x', 256), 'x'", "channel is longer than 255 bytes"},
        {"'a', NULL", "event_type is null; write '' for a broadcast without a type"},
        {"'a', E'x\\r'", "event_type contains a control character"},
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
