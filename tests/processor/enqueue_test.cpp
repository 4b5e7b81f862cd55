#include "processor/enqueue.hpp"

#include <gtest/gtest.h>

#include "tests/support/database.hpp"

namespace spillway {
namespace {

using nlohmann::json;
using test::Database;

std::string problem(const std::string& text) {
  try {
    check_events(json::parse(text));
  } catch (const BadEvent& error) {
    return error.what();
  }
  return "none";
}

TEST(CheckEvents, SaysWhatToWriteInstead) {
  EXPECT_EQ(problem(R"({"type":"A"})"), "none");
  EXPECT_EQ(problem(R"([{"type":"A","payload":{"x":[1]},"stream":"s","context":{},"priority":1}])"),
            "none");
  EXPECT_EQ(problem("[]"), "the array of events is empty");
  EXPECT_EQ(
      problem("7"),
      "an event must be an object such as {\"type\":\"CommentAdded\",\"payload\":{}}, not number");
  EXPECT_EQ(problem("{}"),
            "field \"type\" is missing or not a non-empty string, e.g. "
            "{\"type\":\"CommentAdded\",\"payload\":{}}");
  EXPECT_EQ(problem(R"([{"type":"A"},{"type":""}])"),
            "event 1: field \"type\" is missing or not a non-empty string, e.g. "
            "{\"type\":\"CommentAdded\",\"payload\":{}}");
  EXPECT_EQ(problem(R"({"type":"A","paylod":{}})"),
            "field \"paylod\" is unknown; there is type, payload, stream, stream_version, context, "
            "correlation_id, causation_id, idempotency_key, priority, execute_at, max_attempts");
  EXPECT_EQ(problem(R"({"type":"A","stream":7})"), "field \"stream\" must be a string, not number");
  EXPECT_EQ(problem(R"({"type":"A","priority":"high"})"), "field \"priority\" must be an integer");
}

TEST(InsertEvents, KeepsTheOrderAndTheDefaults) {
  Database database;
  PgConnection session(database.target());
  json events = json::array();
  for (int i = 0; i < 500; ++i)
    events.push_back({{"type", "T" + std::to_string(i)}, {"payload", {{"i", i}}}});
  const auto ids = insert_events(session, events);
  ASSERT_EQ(ids.size(), 500u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE type = 'T' || "
                            "(payload->>'i') AND id = 1 + (payload->>'i')::int"),
            500);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.back(), 500);
}

TEST(InsertEvents, EveryFieldArrives) {
  Database database;
  PgConnection session(database.target());
  const auto ids =
      insert_events(session, {{"type", "A"},
                              {"payload", {1, "x", nullptr}},
                              {"stream", "s"},
                              {"stream_version", 3},
                              {"context", {{"user", 7}}},
                              {"correlation_id", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
                              {"causation_id", 5},
                              {"idempotency_key", "k"},
                              {"priority", -2},
                              {"execute_at", "2020-01-01T00:00:00Z"},
                              {"max_attempts", 9}});
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(
      database.value(
          "SELECT concat_ws('|', type, payload, stream, stream_version, context, correlation_id,"
          " causation_id, idempotency_key, priority, extract(year FROM execute_at), max_attempts)"
          " FROM spillway.events"),
      "A|[1, \"x\", null]|s|3|{\"user\": 7}|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|5|k|-2|2020|9");
}

TEST(InsertEvents, AllOrNone) {
  Database database;
  PgConnection session(database.target());
  EXPECT_THROW(
      insert_events(session, {{{"type", "A"}}, {{"type", "B"}, {"correlation_id", "no uuid"}}}),
      SqlError);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 0);
}

}  // namespace
}  // namespace spillway
