#include "processor/webhook_client.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <future>

#include "spillway/version.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/http_target.hpp"

namespace spillway {
namespace {

using namespace std::chrono_literals;
using test::HttpTarget;

WebhookClientOptions local() {
  WebhookClientOptions options;
  options.policy.allow("127.0.0.0/8");
  options.policy.allow("::1");
  return options;
}

std::future<WebhookAnswer> send(WebhookClient& client, const std::string& url,
                                std::vector<std::pair<std::string, std::string>> headers = {}) {
  auto promise = std::make_shared<std::promise<WebhookAnswer>>();
  client.send({url, R"({"a": 1})", std::move(headers)},
              [promise](WebhookAnswer answer) { promise->set_value(std::move(answer)); });
  return promise->get_future();
}

WebhookAnswer wait_for(std::future<WebhookAnswer> answer) {
  if (answer.wait_for(20s) != std::future_status::ready) return {.error = "the test gave up"};
  return answer.get();
}

WebhookAnswer answer_from(const std::string& url, WebhookClientOptions options = local()) {
  WebhookClient client(std::move(options));
  return wait_for(send(client, url));
}

TEST(WebhookClient, PostsJsonAndReadsTheAnswer) {
  HttpTarget target;
  target.answer(201, "", "taken");
  WebhookClient client(local());
  const auto answer =
      wait_for(send(client, target.url() + "/a?b=c%20d", {{"X-A", "1"}, {"Idempotency-Key", "k"}}));
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.body, "taken");
  ASSERT_EQ(target.count(), 1u);
  const auto request = target.requests().front();
  EXPECT_EQ(request.line(), "POST /hook/a?b=c%20d HTTP/1.1");
  EXPECT_EQ(request.body, R"({"a": 1})");
  EXPECT_EQ(request.header("Host"), "127.0.0.1:" + std::to_string(target.port()));
  EXPECT_EQ(request.header("Content-Type"), "application/json");
  EXPECT_EQ(request.header("Content-Length"), "8");
  EXPECT_EQ(request.header("User-Agent"), "spillway/" SPILLWAY_VERSION);
  EXPECT_EQ(request.header("X-A"), "1");
  EXPECT_EQ(request.header("Idempotency-Key"), "k");
}

TEST(WebhookClient, TheEffectsContentTypeReplacesTheUsualOne) {
  HttpTarget target;
  WebhookClient client(local());
  wait_for(send(client, target.url(), {{"content-type", "application/cloudevents+json"}}));
  const auto request = target.requests().at(0);
  EXPECT_EQ(request.header("content-type"), "application/cloudevents+json");
  EXPECT_EQ(request.header("Content-Type"), "");
}

TEST(WebhookClient, LoopbackIsRefusedUnlessAllowed) {
  HttpTarget target;
  const std::string port = ":" + std::to_string(target.port()) + "/";
  const auto refused = answer_from(target.url(), {});
  EXPECT_TRUE(refused.refused);
  EXPECT_EQ(refused.error,
            "127.0.0.1, loopback: webhooks may not go there unless the worker is started with "
            "--webhook-allow 127.0.0.1");
  for (const std::string host :
       {"localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "169.254.169.254", "10.0.0.1"}) {
    const auto answer = answer_from("http://" + host + port, {});
    EXPECT_TRUE(answer.refused) << host << ": " << answer.error;
    EXPECT_NE(answer.error.find("--webhook-allow"), std::string::npos) << answer.error;
  }
  EXPECT_EQ(target.count(), 0u);
}

TEST(WebhookClient, ANameIsJudgedByWhatItResolvesTo) {
  HttpTarget target;
  const auto refused = answer_from(target.url("localhost"), {});
  EXPECT_TRUE(refused.refused);
  EXPECT_EQ(refused.error.find("localhost is "), 0u) << refused.error;
  EXPECT_EQ(answer_from(target.url("localhost")).status, 200);
}

TEST(WebhookClient, ANameThatIsNotThereIsTheTargetsTrouble) {
  const auto answer = answer_from("http://no-such-host.invalid/");
  EXPECT_EQ(answer.status, 0);
  EXPECT_FALSE(answer.refused);
  EXPECT_EQ(answer.error.find("looking up no-such-host.invalid: "), 0u) << answer.error;
}

TEST(WebhookClient, NobodyListensThere) {
  int port = 0;
  {
    const HttpTarget target;
    port = target.port();
  }
  const auto answer = answer_from("http://127.0.0.1:" + std::to_string(port) + "/");
  EXPECT_EQ(answer.error, "connecting: Connection refused");
}

TEST(WebhookClient, ATargetThatDoesNotAnswerIsGivenUpInTime) {
  HttpTarget target;
  target.hang();
  auto options = local();
  options.timeout = 200ms;
  EXPECT_EQ(answer_from(target.url(), options).error, "no answer within 200 ms");
}

TEST(WebhookClient, AConnectionThatIsClosedIsNoAnswer) {
  HttpTarget target;
  target.close();
  const auto answer = answer_from(target.url());
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.error.find("no answer: "), 0u) << answer.error;
  target.answer_raw("SSH-2.0-OpenSSH\r\n\r\n");
  EXPECT_EQ(answer_from(target.url()).error.find("no answer: "), 0u);
}

TEST(WebhookClient, RedirectsAreNotFollowed) {
  HttpTarget target, elsewhere;
  target.answer(307, "Location: " + elsewhere.url() + "\r\n");
  const auto answer = answer_from(target.url());
  EXPECT_EQ(answer.status, 307);
  EXPECT_EQ(answer.location, elsewhere.url());
  EXPECT_EQ(elsewhere.count(), 0u);
}

TEST(WebhookClient, AHugeAnswerIsNotReadToItsEnd) {
  HttpTarget target;
  // Says that it is far longer than it is: who waited for the end would time out.
  target.answer_raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" +
                    std::string(1 << 20, 'x'));
  const auto answer = answer_from(target.url());
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, std::string(4096, 'x'));
  target.answer_raw("HTTP/1.1 200 OK\r\nX: " + std::string(1 << 20, 'x') + "\r\n\r\n");
  EXPECT_EQ(answer_from(target.url()).error.find("no answer: "), 0u);
}

TEST(WebhookClient, WhatIsKeptOfAnAnswerIsText) {
  HttpTarget target;
  target.answer(500, "Retry-After: 7\r\n",
                std::string("a\0b\xff"
                            "c",
                            5) +
                    std::string(4090, 'x') + "\xe2\x82\xac\xe2\x82\xac");
  const auto answer = answer_from(target.url());
  EXPECT_EQ(answer.retry_after, "7");
  EXPECT_EQ(answer.body.substr(0, 7),
            "a b\xef\xbf\xbd"
            "c");
  EXPECT_LE(answer.body.size(), 4096u);
  EXPECT_EQ(answer.body.back(), 'x');
}

TEST(WebhookClient, InterimAnswersAreSkipped) {
  HttpTarget target;
  target.answer_raw("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(answer_from(target.url()).status, 204);
}

TEST(WebhookClient, ACertificateNobodyVouchesForIsRefused) {
  HttpTarget target(test::self_signed("DNS:localhost,IP:127.0.0.1"));
  for (const char* host : {"127.0.0.1", "localhost"})
    EXPECT_EQ(answer_from(target.url(host)).error,
              "TLS: the certificate is refused: self-signed certificate");
  EXPECT_EQ(target.count(), 0u);
}

TEST(WebhookClient, ACertificateMustBeForTheHost) {
  const auto identity = test::self_signed("DNS:localhost");
  HttpTarget target(identity);
  setenv("SSL_CERT_FILE", identity.certificate.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  WebhookClient client(local());
  unsetenv("SSL_CERT_FILE");  // NOLINT(concurrency-mt-unsafe)
  EXPECT_EQ(wait_for(send(client, target.url("localhost"))).status, 200);
  const auto answer = wait_for(send(client, target.url("127.0.0.1")));
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.error.find("TLS: the certificate is refused: "), 0u) << answer.error;
  EXPECT_EQ(target.count(), 1u);
}

TEST(WebhookClient, PlainTextBehindHttpsIsNoAnswer) {
  HttpTarget target;
  target.hang();
  auto options = local();
  options.connect_timeout = 200ms;
  const auto answer =
      answer_from("https://127.0.0.1:" + std::to_string(target.port()) + "/", options);
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.error, "no connection within 200 ms");
}

TEST(WebhookClient, StoppingCutsOffWhatIsInFlight) {
  HttpTarget target;
  target.hang_always();
  std::atomic<int> answers{0};
  {
    WebhookClient client(local());
    for (int i = 0; i < 3; ++i) client.send({target.url(), "1", {}}, [&](auto) { ++answers; });
    EXPECT_TRUE(test::eventually([&] { return target.count() == 3; }));
    client.stop();
    client.stop();
  }
  EXPECT_EQ(answers, 0);
}

}  // namespace
}  // namespace spillway
