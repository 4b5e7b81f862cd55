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
    options.port = 0;
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

TEST_F(HttpApiTest, HealthAndThePage) {
  EXPECT_EQ(http(server->port(), "GET", "/healthz").status, 200);
  EXPECT_EQ(http(server->port(), "GET", "/readyz").status, 200);
  EXPECT_NE(http(server->port(), "GET", "/").body.find("<html"), std::string::npos);
  EXPECT_EQ(json::parse(http(server->port(), "GET", "/api/status").body)["pending"], 0);
}

}  // namespace
}  // namespace spillway
