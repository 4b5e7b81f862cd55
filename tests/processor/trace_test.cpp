#include "processor/trace.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/database.hpp"
#include "tests/support/process.hpp"

namespace spillway {
namespace {

using test::Database;

constexpr const char* id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

class TraceTest : public testing::Test {
 protected:
  TraceTest() {
    const std::string correlation = std::string("'") + id + "'";
    database.query(
        "INSERT INTO spillway.events (type, correlation_id, stream) VALUES ('Placed', " +
        correlation +
        ", 's');"
        "INSERT INTO spillway.events (type) VALUES ('Other');"
        "INSERT INTO spillway.events (type, correlation_id, causation_id) VALUES ('Reminder', " +
        correlation + ", 1), ('Sent', " + correlation +
        ", 1);"
        "INSERT INTO spillway.events (type, correlation_id, causation_id) VALUES ('Closed', " +
        correlation +
        ", 3);"
        "DELETE FROM spillway.queue WHERE event_id <> 4;"
        "INSERT INTO spillway.dead_letters (event_id, error, attempts) VALUES (5, 'why', 3);"
        "INSERT INTO spillway.broadcasts (position, channel, event_type, data, event_id) SELECT g, "
        "'c', 'E', '1', 1 FROM generate_series(7, 8) g;"
        "INSERT INTO spillway.webhooks (event_id, correlation_id, name, url, host, payload, "
        "status, attempts, last_status, finished_at)"
        " VALUES (1, " +
        correlation + ", 'mail', 'https://m/x', 'm:443', '{}', 'sent', 2, 200, clock_timestamp())");
  }
  // Lines up to what depends on the time.
  std::string shape(std::string lines) {
    for (std::size_t at = 0; (at = lines.find("  20", at)) != std::string::npos;)
      lines.erase(at, lines.find('\n', at) - at);
    for (std::size_t at = 0; (at = lines.find(", +", at)) != std::string::npos;)
      lines.erase(at, lines.find('\n', at) - at);
    return lines;
  }

  Database database;
  PgConnection session{database.target()};
};

TEST_F(TraceTest, IsTheTreeOfWhatCausedWhat) {
  EXPECT_EQ(shape(to_text(read_trace(session, id))),
            "1  Placed  stream s  done\n"
            "    broadcasts: 2, position 7 to 8\n"
            "    webhook: mail to m:443, sent, attempts 2, HTTP 200\n"
            "    3  Reminder  done\n"
            "        5  Closed  dead\n"
            "            error: why\n"
            "    4  Sent  pending\n");
}

TEST_F(TraceTest, AnUnknownIdHasNoEvents) {
  EXPECT_TRUE(read_trace(session, "00000000-0000-0000-0000-000000000000").empty());
  EXPECT_THROW(static_cast<void>(read_trace(session, "nonsense")), SqlError);
}

TEST_F(TraceTest, TheCommandCountsEffectsWhenItHasTheHandlers) {
  database.query(
      std::string("INSERT INTO spillway.events (type, correlation_id, payload) VALUES "
                  "('CommentAdded', '11111111-9c0b-4ef8-bb6d-6bb9bd380a11',"
                  " '{\"item_id\":\"1\",\"author_name\":\"a\",\"text\":\"t\"}');"
                  "DELETE FROM spillway.queue"));
  const auto traced =
      test::run({test::spillway_binary(), "trace", "11111111-9c0b-4ef8-bb6d-6bb9bd380a11",
                 "--database-url", database.url(), "--handlers", test::comments_library()});
  EXPECT_EQ(traced.exit_code, 0) << traced.errors;
  EXPECT_NE(traced.output.find("effects: Insert 1 SSEBroadcast 1"), std::string::npos)
      << traced.output;
  const auto folder = test::scratch_folder() / "reading";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "Placed.jq") << "[]";
  std::ofstream(folder / "Placed.sql") << "SELECT 1 AS one";
  const auto reading = test::run({test::spillway_binary(), "trace", id, "--database-url",
                                  database.url(), "--handlers", folder.string()});
  EXPECT_NE(reading.output.find("effects: not known any more"), std::string::npos)
      << reading.output << reading.errors;
  const auto wrong =
      test::run({test::spillway_binary(), "trace", "x", "--database-url", database.url()});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.errors, "spillway: trace x: write a correlation id, a uuid\n");
}

}  // namespace
}  // namespace spillway
