#include "processor/http_api.hpp"

#include <gtest/gtest.h>

#include <future>

#include "processor/outbox_replay.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/sse_client.hpp"

namespace spillway {
namespace {

using nlohmann::json;
using test::http;
using test::HttpAnswer;

class HttpApiTest : public testing::Test {
 protected:
  HttpApiTest() {
    options.listen.front().port = 0;
    server.emplace(options, hub, replay);
    api.add_routes(*server);
    server->start();
  }
  ~HttpApiTest() override {
    api.stop();
    server->stop(std::chrono::seconds(5));
    replay.stop();
  }

  std::future<HttpAnswer> post(const std::string& target, const std::string& body) {
    return std::async(std::launch::async,
                      [this, target, body] { return http(server->port(), "POST", target, body); });
  }

  // As a worker would settle event `id`.
  void settle(int id, const std::string& how) {
    ASSERT_TRUE(test::eventually(
        [&] { return database.number("SELECT count(*) FROM spillway.queue") >= 1; }));
    database.query("BEGIN;" + how + "; DELETE FROM spillway.queue WHERE event_id = " +
                   std::to_string(id) + "; COMMIT");
    api.settled();
  }

  test::Database database;
  sse::Hub hub{{}};
  OutboxReplay replay{database.target()};
  HttpApi api{database.target(), [] { return true; }};
  sse::ServerOptions options;
  std::optional<sse::Server> server;
};

TEST_F(HttpApiTest, AnEventIsTakenAndItsIdTold) {
  const auto answer = http(server->port(), "POST", "/events", R"({"type":"A"})");
  EXPECT_EQ(answer.status, 202);
  EXPECT_EQ(answer.body, "{\"id\":1}\n");
  EXPECT_EQ(http(server->port(), "POST", "/events", R"([{"type":"A"},{"type":"B"}])").body,
            "{\"ids\":[2,3]}\n");
}

TEST_F(HttpApiTest, BadInputIsExplained) {
  const auto error = [&](const std::string& target, const std::string& body,
                         const std::string& type = "application/json") {
    const auto answer = http(server->port(), "POST", target, body, type);
    return std::to_string(answer.status) + " " +
           json::parse(answer.body)["error"].get<std::string>();
  };
  EXPECT_EQ(error("/events", "{", "application/json"), "400 the body is not valid JSON");
  EXPECT_EQ(error("/events", "{}", "text/plain"),
            "415 send the event as Content-Type: application/json");
  EXPECT_EQ(error("/events", R"({"type":"A","x":1})").substr(0, 24), "400 field \"x\" is unknown");
  EXPECT_EQ(
      error("/events", R"([{"type":"A"},{"type":"spillway.Broadcast"}])"),
      "400 type \"spillway.Broadcast\": types that begin with \"spillway.\" are spillway's own; "
      "choose another name");
  EXPECT_EQ(error("/events?wait=x", R"({"type":"A"})"),
            "400 wait takes seconds, 0 to 300, e.g. /events?wait=5");
  EXPECT_EQ(error("/events?wait=1", R"([{"type":"A"}])"), "400 wait takes one event, not an array");
  database.query("INSERT INTO spillway.events (type, idempotency_key) VALUES ('A', 'k')");
  EXPECT_EQ(error("/events?wait=9", R"({"type":"A","idempotency_key":"k"})").substr(0, 17),
            "409 duplicate key");
}

TEST_F(HttpApiTest, WhoWaitsGetsTheResponse) {
  auto answer = post("/events?wait=60", R"({"type":"A"})");
  settle(1, "INSERT INTO spillway.results (event_id, response) VALUES (1, '{\"total\": 7}')");
  const auto got = answer.get();
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(json::parse(got.body),
            json::parse(R"({"id":1,"status":"done","response":{"total":7}})"));
}

TEST_F(HttpApiTest, WhoWaitsIsToldOfADeadLetterAndOfNoResponse) {
  auto dead = post("/events?wait=60", R"({"type":"A","stream":"s"})");
  settle(1, "INSERT INTO spillway.dead_letters (event_id, error, attempts) VALUES (1, 'why', 1)");
  EXPECT_EQ(json::parse(dead.get().body), json::parse(R"({"id":1,"status":"dead","error":"why"})"));
  auto plain = post("/events?wait=60", R"({"type":"A"})");
  settle(2, "SELECT 1");
  EXPECT_EQ(json::parse(plain.get().body),
            json::parse(R"({"id":2,"status":"done","response":null})"));
}

TEST_F(HttpApiTest, AfterTheWaitTheEventIsStillEnqueued) {
  const auto answer = http(server->port(), "POST", "/events?wait=0.05", R"({"type":"A"})");
  EXPECT_EQ(answer.status, 202);
  EXPECT_EQ(answer.body, "{\"id\":1}\n");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 1);
}

TEST_F(HttpApiTest, DeadLettersAreListedTheNewestFirst) {
  database.query(R"(
    INSERT INTO spillway.events (type, stream) SELECT CASE WHEN g = 2 THEN 'B' ELSE 'A' END, 's'
    FROM generate_series(1, 3) g;
    INSERT INTO spillway.dead_letters (event_id, error, sqlstate, attempts, failed_at)
    SELECT id, format('event %s: 50%% & more', id), NULL, 5, '2026-01-31 12:00Z'::timestamptz + id * interval '1 s'
    FROM spillway.events)");
  const auto ids = [&](const std::string& query) {
    const auto answer = http(server->port(), "GET", "/api/dead" + query);
    EXPECT_EQ(answer.status, 200) << answer.body;
    std::string text;
    for (const json& one : json::parse(answer.body))
      text += std::to_string(one["event_id"].get<int>()) + " ";
    const auto total = answer.head.find("X-Total-Count: ");
    return text + "of " +
           answer.head.substr(total + 15, answer.head.find('\r', total) - total - 15);
  };
  EXPECT_EQ(ids(""), "3 2 1 of 3");
  EXPECT_EQ(ids("?limit=1"), "3 of 3");
  EXPECT_EQ(ids("?type=A&limit=1"), "3 of 2");
  EXPECT_EQ(ids("?type=A&type=B&limit=2"), "3 2 of 3");
  EXPECT_EQ(ids("?error=2%3A%2050%25+%26"), "2 of 1");
  EXPECT_EQ(ids("?sqlstate=none&stream=s&since=2026-01-31T12:00:02Z&until=2026-01-31T12:00:03Z"),
            "2 of 1");
  EXPECT_EQ(ids("?type=C"), "of 0");
  EXPECT_EQ(json::parse(http(server->port(), "GET", "/api/dead?type=B").body)[0],
            json::parse(R"({"event_id":2,"type":"B","stream":"s","attempts":5,"sqlstate":null,
              "failed_at":"2026-01-31T12:00:02.000000Z","error":"event 2: 50% & more",
              "holds_stream":false})"));
  for (const char* bad :
       {"?limit=0", "?limit=1001", "?limit=x", "?error=%zz", "?error=%00", "?since=yesterday-ish"})
    EXPECT_EQ(http(server->port(), "GET", std::string("/api/dead") + bad).status, 400) << bad;
}

TEST_F(HttpApiTest, HealthAndThePage) {
  EXPECT_EQ(http(server->port(), "GET", "/healthz").status, 200);
  EXPECT_EQ(http(server->port(), "GET", "/readyz").status, 200);
  EXPECT_NE(http(server->port(), "GET", "/").body.find("<html"), std::string::npos);
  EXPECT_EQ(json::parse(http(server->port(), "GET", "/api/status").body)["pending"], 0);
}

}  // namespace
}  // namespace spillway
