#include "processor/webhook_decision.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using Kind = WebhookDecision::Kind;

// Sunday, 6 November 1994, 08:49:37.5
const auto now = std::chrono::sys_days(std::chrono::year(1994) / 11 / 6) + 8h + 49min + 37500ms;

WebhookDecision of_status(int status, int attempts = 1, const std::string& wait = "") {
  WebhookAnswer answer;
  answer.status = status;
  answer.retry_after = wait;
  RetryPolicy policy;
  policy.max_attempts = 3;
  policy.base = 4000ms;
  return decide(answer, attempts, policy, 0.5, now);
}

TEST(WebhookDecision, TwoHundredsAreSent) {
  for (const int status : {200, 201, 202, 204, 299}) {
    EXPECT_EQ(of_status(status).kind, Kind::sent) << status;
    EXPECT_EQ(of_status(status).error, "");
  }
}

TEST(WebhookDecision, WhatMayMendItselfIsTriedAgainAndTheRestIsNot) {
  for (const int status : {408, 425, 429, 500, 502, 503, 504, 599})
    EXPECT_EQ(of_status(status).kind, Kind::again) << status;
  for (const int status : {101, 300, 301, 302, 307, 308, 400, 401, 403, 404, 410, 422})
    EXPECT_EQ(of_status(status).kind, Kind::dead) << status;
  EXPECT_EQ(of_status(404).error, "the target answered 404");
}

TEST(WebhookDecision, ARedirectSaysSo) {
  WebhookAnswer answer;
  answer.status = 302;
  answer.location = "http://127.0.0.1/";
  EXPECT_EQ(decide(answer, 1, {}, 0, now).error,
            "the target answered 302, a redirect to http://127.0.0.1/; redirects are not followed, "
            "so give the final address");
}

TEST(WebhookDecision, DelaysDoubleWithJitterUntilTheAttemptsAreExhausted) {
  EXPECT_EQ(of_status(500, 1).delay, 3000ms);
  EXPECT_EQ(of_status(500, 2).delay, 6000ms);
  EXPECT_EQ(of_status(500, 3).kind, Kind::dead);
  EXPECT_EQ(of_status(500, 3).error, "the target answered 500");
}

TEST(WebhookDecision, NoAnswerIsTriedAgainUnlessTheAddressIsRefused) {
  WebhookAnswer answer;
  answer.error = "timed out";
  EXPECT_EQ(decide(answer, 1, {}, 0, now).kind, Kind::again);
  EXPECT_EQ(decide(answer, 1, {}, 0, now).error, "timed out");
  answer.refused = true;
  EXPECT_EQ(decide(answer, 1, {}, 0, now).kind, Kind::dead);
}

TEST(WebhookDecision, TheTargetMayAskForMoreTimeButNotForLess) {
  EXPECT_EQ(of_status(429, 1, "10").delay, 10s);
  EXPECT_EQ(of_status(503, 1, "0").delay, 3s);
  EXPECT_EQ(of_status(503, 1, "soon").delay, 3s);
}

TEST(RetryAfter, IsSecondsOrADateUpToAnHour) {
  EXPECT_EQ(retry_after("0", now), 0ms);
  EXPECT_EQ(retry_after("120", now), 120s);
  EXPECT_EQ(retry_after("3601", now), 1h);
  EXPECT_EQ(retry_after("99999999999999999999999", now), 1h);
  EXPECT_EQ(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), 2500ms);
  EXPECT_EQ(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), 0ms);
  EXPECT_EQ(retry_after("Fri, 06 Nov 2099 08:49:37 GMT", now), 1h);
}

TEST(RetryAfter, AnythingElseIsNothing) {
  for (const char* text : {"", "-1", "+1", "1.5", "1 ", "Sun, 06 Nov 1994 08:49:40 CET",
                           "Sun, 06 Nox 1994 08:49:40 GMT", "Sun, 31 Feb 1994 08:49:40 GMT",
                           "Sun, 06 Nov 1994 24:49:40 GMT", "Sun, /6 Nov 1994 08:49:40 GMT",
                           "Sunday, 06-Nov-94 08:49:37 GMT"})
    EXPECT_EQ(retry_after(text, now), std::nullopt) << text;
}

}  // namespace
}  // namespace spillway
