// Webhooks from the table to the target and back: status, retries, events, at least once.
#include "processor/webhook_sender.hpp"

#include <gtest/gtest.h>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/http_target.hpp"

namespace spillway {
namespace {

using namespace std::chrono_literals;
using test::Database;
using test::eventually;
using test::HttpTarget;

constexpr const char* correlation = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

class WebhookSenderTest : public testing::Test {
 protected:
  WebhookSenderTest() {
    options.target = database.target();
    options.client.policy.allow("127.0.0.0/8");
    options.client.policy.allow("::1");
    options.retry = {4, 1ms, 10ms};
    options.log = [](const LogLine&) {};
  }

  void insert(const std::string& url, const std::string& host = "127.0.0.1", int count = 1) {
    database.query(
        "INSERT INTO spillway.webhooks (event_id, correlation_id, name, url, host,"
        " payload, headers) SELECT 7, '" +
        std::string(correlation) + "', 'n', '" + url + "', '" + host +
        "', '{\"x\": 1}', '{\"X-A\": \"b\"}' FROM generate_series(1, " + std::to_string(count) +
        ")");
    if (sender) sender->wake();
  }

  void start() {
    sender.emplace(options);
    sender->start();
  }

  bool all_are(const std::string& status) {
    return eventually([&] {
      return database.number("SELECT count(*) FROM spillway.webhooks WHERE status <> '" + status +
                             "'") == 0;
    });
  }

  // The events that followed, without what differs between runs.
  std::string events() {
    return database.value(
        "SELECT string_agg(concat_ws(' ', type, payload - 'webhook_id' - 'url',"
        " correlation_id = '" +
        std::string(correlation) +
        "', causation_id, (payload->>'webhook_id')::uuid IN"
        " (SELECT id FROM spillway.webhooks)), '; ' ORDER BY id)"
        " FROM spillway.events");
  }

  Database database;
  WebhookSenderOptions options;
  std::optional<WebhookSender> sender;
};

TEST_F(WebhookSenderTest, ADeliveryIsFollowedByASuccess) {
  HttpTarget target;
  target.answer(202, "", "thanks");
  insert(target.url());
  start();
  ASSERT_TRUE(all_are("sent"));
  EXPECT_EQ(events(),
            "WebhookSuccess {\"name\": \"n\", \"status\": 202, \"attempts\": 1, \"response\": "
            "\"thanks\"} t 7 t");
  ASSERT_EQ(target.count(), 1u);
  const auto request = target.requests().front();
  EXPECT_EQ(request.body, "{\"x\": 1}");
  EXPECT_EQ(request.header("X-A"), "b");
  EXPECT_EQ(request.header("Idempotency-Key"), database.value("SELECT id FROM spillway.webhooks"));
  EXPECT_EQ(database.value("SELECT concat_ws(' ', attempts, last_status, last_error IS NULL,"
                           " finished_at IS NOT NULL) FROM spillway.webhooks"),
            "1 202 t t");
}

TEST_F(WebhookSenderTest, AFailureIsTriedAgainWithTheSameKey) {
  HttpTarget target;
  target.answer(500);
  target.close();
  insert(target.url());
  start();
  ASSERT_TRUE(all_are("sent"));
  const auto requests = target.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_NE(requests[0].header("Idempotency-Key"), "");
  EXPECT_EQ(requests[0].header("Idempotency-Key"), requests[1].header("Idempotency-Key"));
  EXPECT_EQ(requests[0].header("Idempotency-Key"), requests[2].header("Idempotency-Key"));
  EXPECT_EQ(events(),
            "WebhookSuccess {\"name\": \"n\", \"status\": 200, \"attempts\": 3, "
            "\"response\": \"\"} t 7 t");
}

TEST_F(WebhookSenderTest, ExhaustedAttemptsEndInAFailure) {
  HttpTarget target;
  for (int i = 0; i < 4; ++i) target.answer(503, "", "busy");
  insert(target.url());
  start();
  ASSERT_TRUE(all_are("dead"));
  EXPECT_EQ(target.count(), 4u);
  EXPECT_EQ(events(),
            "WebhookFailure {\"name\": \"n\", \"error\": \"the target answered 503\", "
            "\"status\": 503, \"attempts\": 4, \"response\": \"busy\"} t 7 t");
}

TEST_F(WebhookSenderTest, WhatCannotMendItselfIsDeadAtOnce) {
  HttpTarget target;
  target.answer(404);
  insert(target.url());
  start();
  ASSERT_TRUE(all_are("dead"));
  EXPECT_EQ(target.count(), 1u);
  EXPECT_EQ(events(),
            "WebhookFailure {\"name\": \"n\", \"error\": \"the target answered 404\", "
            "\"status\": 404, \"attempts\": 1, \"response\": \"\"} t 7 t");
}

TEST_F(WebhookSenderTest, ARefusedAddressIsDeadAtOnceAndNamesTheOption) {
  HttpTarget target;
  options.client.policy = {};
  insert(target.url());
  start();
  ASSERT_TRUE(all_are("dead"));
  EXPECT_EQ(target.count(), 0u);
  EXPECT_EQ(
      events(),
      "WebhookFailure {\"name\": \"n\", \"error\": \"127.0.0.1, loopback: webhooks may not go "
      "there unless the worker is started with --webhook-allow 127.0.0.1\", \"status\": null, "
      "\"attempts\": 1} t 7 t");
}

TEST_F(WebhookSenderTest, RetryAfterIsWaitedFor) {
  HttpTarget target;
  target.answer(429, "Retry-After: 1800\r\n");
  insert(target.url());
  start();
  ASSERT_TRUE(all_are("failed"));
  EXPECT_EQ(
      database.value("SELECT concat_ws(' ', attempts, last_status, last_error, next_attempt_at"
                     " - now() BETWEEN interval '29 minutes' AND interval '30 minutes')"
                     " FROM spillway.webhooks"),
      "1 429 the target answered 429 t");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 0);
  // Its time comes.
  database.query("UPDATE spillway.webhooks SET next_attempt_at = now()");
  sender->wake();
  ASSERT_TRUE(all_are("sent"));
}

TEST_F(WebhookSenderTest, ASlowTargetIsOnlyInItsOwnWay) {
  HttpTarget slow, quick;
  slow.hang_always();
  options.in_flight = 6;
  insert(slow.url("127.0.0.1"), "127.0.0.1", 50);
  start();
  // No more than its share, although there is room.
  ASSERT_TRUE(eventually([&] { return slow.count() == 4; }));
  insert(quick.url("localhost"), "localhost", 50);
  ASSERT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM spillway.webhooks WHERE host = 'localhost' AND status = "
               "'sent'") == 50;
  }));
  EXPECT_EQ(slow.count(), 4u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.webhooks WHERE status = 'sending'"), 4);
  slow.release();
  ASSERT_TRUE(all_are("sent"));
  EXPECT_EQ(slow.count(), 50u);
}

TEST_F(WebhookSenderTest, HostsTakeTurns) {
  HttpTarget target;
  options.in_flight = 1;
  for (const char* host : {"127.0.0.1", "127.0.0.2", "127.0.0.3"})
    insert(target.url(), host, 10);  // the same place under three names
  start();
  ASSERT_TRUE(all_are("sent"));
  EXPECT_EQ(database.value("SELECT string_agg(right(host, 1), '' ORDER BY finished_at)"
                           " FROM spillway.webhooks"),
            "123123123123123123123123123123");
}

TEST_F(WebhookSenderTest, TwoSendersSendEachOnce) {
  HttpTarget target;
  start();
  WebhookSender other(options);
  other.start();
  insert(target.url(), "127.0.0.1", 200);
  other.wake();
  ASSERT_TRUE(all_are("sent"));
  EXPECT_EQ(target.count(), 200u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 200);
  EXPECT_EQ(database.number("SELECT max(attempts) FROM spillway.webhooks"), 1);
}

TEST_F(WebhookSenderTest, WhatADeadSenderLeftBehindIsSentAgain) {
  HttpTarget target;
  insert(target.url());
  {
    PgConnection session(database.target());
    const auto claimed = WebhookStore(session).claim(9, 4, {}, "", 60s);
    ASSERT_EQ(claimed.size(), 1u);
    EXPECT_TRUE(WebhookStore(session).claim(9, 4, {}, "", 60s).empty()) << "it is taken";
  }
  database.query("UPDATE spillway.webhooks SET next_attempt_at = now()");  // the lease runs out
  start();
  ASSERT_TRUE(all_are("sent"));
  EXPECT_EQ(database.number("SELECT attempts FROM spillway.webhooks"), 2);
}

TEST_F(WebhookSenderTest, AnAnswerThatComesAfterTheLeaseChangesNothing) {
  insert("http://127.0.0.1/");
  PgConnection session(database.target());
  WebhookStore store(session);
  const auto late = store.claim(1, 4, {}, "", 0s);
  const auto second = store.claim(1, 4, {}, "", 60s);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_FALSE(store.settle(late.at(0), {.status = 200}, {}));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 0);
  EXPECT_TRUE(store.settle(second.at(0), {.status = 200}, {}));
  EXPECT_FALSE(store.settle(second.at(0), {.status = 200}, {}));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1);
}

TEST_F(WebhookSenderTest, ALostConnectionLosesNoOutcome) {
  HttpTarget target;
  target.hang();
  insert(target.url());
  start();
  ASSERT_TRUE(eventually([&] { return target.count() == 1; }));
  database.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
      " WHERE datname = current_database() AND pid <> pg_backend_pid()");
  target.release();
  ASSERT_TRUE(all_are("sent"));
  EXPECT_EQ(target.count(), 1u);
  EXPECT_EQ(database.number("SELECT attempts FROM spillway.webhooks"), 1);
}

TEST_F(WebhookSenderTest, StoppingWaitsForWhatIsInFlightAndSendsNothingNew) {
  HttpTarget target;
  target.hang();
  insert(target.url());
  start();
  ASSERT_TRUE(eventually([&] { return target.count() == 1; }));
  sender->begin_stop(std::chrono::steady_clock::now() + 60s);
  insert(target.url());
  target.release();
  sender->stop();
  EXPECT_EQ(database.value("SELECT string_agg(status, ' ' ORDER BY created_at)"
                           " FROM spillway.webhooks"),
            "sent pending");
  EXPECT_EQ(target.count(), 1u);
}

TEST_F(WebhookSenderTest, StoppingDoesNotWaitBeyondTheDeadline) {
  HttpTarget target;
  target.hang_always();
  insert(target.url());
  start();
  ASSERT_TRUE(eventually([&] { return target.count() == 1; }));
  sender->begin_stop(std::chrono::steady_clock::now() + 50ms);
  sender->stop();
  sender->stop();
  EXPECT_EQ(database.value("SELECT status FROM spillway.webhooks"), "sending");
}

}  // namespace
}  // namespace spillway
