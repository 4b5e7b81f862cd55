// Webhooks through the real binary: from an event to the target and back to an event.
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/support/http_target.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

std::vector<std::string> options_with(std::initializer_list<std::string> more) {
  std::vector<std::string> options{"--handlers", test_handlers(), "--webhook-retry-delay", "10ms"};
  options.insert(options.end(), more);
  return options;
}

void ask_for(Database& database, const std::string& url) {
  const json payload{
      {"do", {{{"webhook", {{"url", url}, {"payload", {{"x", 1}}}, {"name", "hook"}}}}}}};
  database.query("INSERT INTO spillway.events (type, payload) VALUES ('Ask', " +
                 sql_quoted(payload.dump()) + ")");
}

bool there_is(Database& database, const std::string& type) {
  return eventually([&] {
    return database.number("SELECT count(*) FROM spillway.events WHERE type = '" + type + "'") == 1;
  });
}

TEST(Webhooks, an_event_triggers_one_and_another_event_says_how_it_ended) {
  Database database;
  HttpTarget target;
  target.answer(500);
  Worker worker(database.url(), options_with({"--webhook-allow", "127.0.0.0/8"}));
  worker.wait_until_ready();
  ask_for(database, target.url());
  ASSERT_TRUE(there_is(database, "WebhookSuccess")) << worker.process().errors();
  EXPECT_EQ(database.value("SELECT concat_ws(' ', s.correlation_id = a.correlation_id,"
                           " s.causation_id = a.id, s.payload->>'name', s.payload->>'status',"
                           " s.payload->>'attempts') FROM spillway.events a, spillway.events s"
                           " WHERE a.type = 'Ask' AND s.type = 'WebhookSuccess'"),
            "t t hook 200 2");
  const auto requests = target.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].header("Idempotency-Key"), requests[1].header("Idempotency-Key"));
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Webhooks, loopback_is_refused_unless_allowed) {
  Database database;
  HttpTarget target;
  Worker worker(database.url(), options_with({}));
  worker.wait_until_ready();
  ask_for(database, target.url());
  ASSERT_TRUE(there_is(database, "WebhookFailure")) << worker.process().errors();
  EXPECT_NE(database
                .value("SELECT payload->>'error' FROM spillway.events WHERE type = "
                       "'WebhookFailure'")
                .find("--webhook-allow"),
            std::string::npos);
  EXPECT_EQ(target.count(), 0u);
}

TEST(Webhooks, a_killed_worker_sends_again_with_the_same_key) {
  Database database;
  HttpTarget target;
  target.hang();
  const auto options = options_with({"--webhook-allow", "127.0.0.1"});
  {
    Worker worker(database.url(), options);
    worker.wait_until_ready();
    ask_for(database, target.url());
    ASSERT_TRUE(eventually([&] { return target.count() == 1; })) << worker.process().errors();
    worker.kill();
  }
  EXPECT_EQ(database.value("SELECT status FROM spillway.webhooks"), "sending");
  // As if its lease had run out.
  database.query("UPDATE spillway.webhooks SET next_attempt_at = now()");
  Worker worker(database.url(), options);
  worker.wait_until_ready();
  ASSERT_TRUE(there_is(database, "WebhookSuccess")) << worker.process().errors();
  const auto requests = target.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].header("Idempotency-Key"), requests[1].header("Idempotency-Key"));
}

TEST(Webhooks, a_target_that_hangs_does_not_delay_events_and_a_stop_waits_for_it_only_so_long) {
  Database database;
  database.query("CREATE TABLE good (n int)");
  HttpTarget target;
  target.hang_always();
  Worker worker(database.url(),
                options_with({"--webhook-allow", "127.0.0.1", "--shutdown-timeout", "2s"}));
  worker.wait_until_ready();
  for (int i = 0; i < 10; ++i) ask_for(database, target.url());
  ASSERT_TRUE(eventually([&] { return target.count() == 4; })) << worker.process().errors();
  database.query(
      "INSERT INTO spillway.events (type, payload) SELECT 'Row', jsonb_build_object('do',"
      " jsonb_build_array(jsonb_build_object('insert', jsonb_build_object('table', 'good', 'data',"
      " jsonb_build_object('n', n))))) FROM generate_series(1, 500) n");
  EXPECT_TRUE(eventually([&] { return database.number("SELECT count(*) FROM good") == 500; }));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.webhooks WHERE status = 'sending'"), 4);
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
}

TEST(Webhooks, a_network_that_is_none_stops_the_start) {
  Database database;
  const Finished finished = run(
      {spillway_binary(), "run", "--database-url", database.url(), "--webhook-allow", "intranet"});
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_NE(
      finished.errors.find("--webhook-allow: intranet is not an address; write a network such "
                           "as 10.1.0.0/16 or fd00::/8"),
      std::string::npos)
      << finished.errors;
}

}  // namespace
}  // namespace spillway::test
