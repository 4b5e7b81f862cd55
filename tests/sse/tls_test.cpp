// TLS on the wire: the same bytes as without, whatever the client's pace; handshakes that go wrong;
// certificates that change.
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <chrono>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/sse/tls_support.hpp"

namespace spillway::sse::test {
namespace {

// One for all: making a key takes longer than most tests.
const Certificate& certificate() {
  static const Certificate made;
  return made;
}

ServerOptions encrypted() {
  ServerOptions options;
  options.tls = certificate().context();
  return options;
}

class Tls : public testing::Test {
 protected:
  explicit Tls(const ServerOptions& options = encrypted()) : site_(options, {}, false) {
    site_.server.route("GET", "/hello", Right::none, [](HttpRequest, Respond respond) {
      respond({200, "text/plain", "hello", {}});
    });
    site_.server.route("POST", "/echo", Right::none, [](HttpRequest request, Respond respond) {
      respond({200, "text/plain", request.body, {}});
    });
    site_.hub.start(site_.line);
    site_.server.start();
  }
  TlsClient open(std::string_view target = "/sse/A/1", const TlsClient::Wish& wish = {}) {
    TlsClient client(site_.port(), wish);
    EXPECT_TRUE(client.connected());
    client.send(get(target));
    return client;
  }
  Site site_;
};

TEST_F(Tls, AStreamIsTheSameByteForByte) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const std::uint64_t before = site_.line.position;
    TlsClient client = open("/sse/A/1", {version, "", 0});
    ASSERT_TRUE(client.read_until("\n\n"));
    site_.publish({{"A:1", "Greeting", "one\ntwo"}, {"B:1", "", "not here"}});
    const std::string id = "e-" + std::to_string(before + 1);
    ASSERT_TRUE(client.read_until("id: " + id + "\n\n"));
    EXPECT_EQ(client.received(),
              opening("A:1", before) + "event: Greeting\ndata: one\ndata: two\nid: " + id + "\n\n");
  }
}

TEST_F(Tls, RoutesAreServedOneAfterTheOtherAndEndWithACloseNotify) {
  TlsClient client(site_.port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.send(get("/hello")));
    ASSERT_TRUE(client.read_until("\r\n\r\nhello"));
  }
  const std::string large(100000, 'x');
  client.send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n");
  client.send(large);
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(client.received().ends_with(large));
  EXPECT_TRUE(client.ended_by_close_notify());
}

TEST_F(Tls, AnErrorAndAnEndedStreamCloseInOrderToo) {
  TlsClient wrong = open("/nope");
  wrong.send("x");  // what is unread must not throw the answer away
  TlsClient bad(site_.port());
  bad.send("hello\r\n\r\n");
  ASSERT_TRUE(bad.read_to_end());
  EXPECT_TRUE(bad.received().starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(bad.ended_by_close_notify());
  TlsClient stream = open();
  ASSERT_TRUE(stream.read_until("connected"));
  site_.publish({{"A:1", "", "last"}});
  site_.server.stop(milliseconds(5000));
  ASSERT_TRUE(stream.read_to_end());
  EXPECT_NE(stream.received().find("data: last\nid: e-1\n\n"), std::string::npos);
  EXPECT_TRUE(stream.ended_by_close_notify());
}

TEST_F(Tls, OldVersionsAreRefusedAndHttp11IsChosen) {
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION})
    EXPECT_FALSE(TlsClient(site_.port(), {version, "", 0}).connected()) << version;
  const TlsClient both(site_.port(), {0, "\x02h2\x08http/1.1", 0});
  EXPECT_TRUE(both.connected());
  EXPECT_EQ(both.version(), "TLSv1.3");
  EXPECT_EQ(both.protocol(), "http/1.1");
  EXPECT_FALSE(TlsClient(site_.port(), {0, "\x02h2", 0}).connected());
}

TEST_F(Tls, ASlowReaderGetsEveryByteInOrder) {
  // Little room in the kernel, reads of random sizes, more than a record and less than one a frame.
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const std::uint64_t before = site_.line.position;
    TlsClient client = open("/sse/A/1", {version, "", 4096});
    ASSERT_TRUE(client.read_until("connected"));
    std::minstd_rand random(7);
    std::string expected = opening("A:1", before);
    for (int burst = 0; burst < 40; ++burst) {
      std::vector<Message> messages;
      for (int i = 0; i < 25; ++i) {
        const std::string data(random() % 8 == 0 ? random() % 60000 : random() % 300,
                               static_cast<char>('a' + random() % 26));
        messages.push_back({"A:1", "", data});
        const auto position = site_.line.position + messages.size();
        expected += "data: " + data + "\nid: e-" + std::to_string(position) + "\n\n";
      }
      site_.publish(messages);
      client.read_some(1 + random() % 20000);
    }
    while (client.received().size() < expected.size() && client.read_some(1 + random() % 20000)) {
    }
    EXPECT_TRUE(client.received() == expected)
        << client.received().size() << " of " << expected.size() << " bytes";
  }
}

TEST_F(Tls, OneThatStallsDoesNotHoldUpOthersAndComesBackById) {
  TlsClient stalled = open("/sse/A/1", {0, "", 4096});
  TlsClient healthy = open();
  ASSERT_TRUE(stalled.read_until("\n\n"));
  ASSERT_TRUE(healthy.read_until("\n\n"));
  for (int i = 0; i < 100; ++i) {
    site_.publish({{"A:1", "", std::string(50000, 'x')}});
    ASSERT_TRUE(healthy.read_until("id: e-" + std::to_string(i + 1) + "\n\n"));
  }
  while (stalled.received().find("id: e-100\n\n") == std::string::npos &&
         stalled.read_some(65536)) {
  }
  EXPECT_EQ(frames_of(stalled.received()), frames_of(healthy.received()));
}

class TlsTimeouts : public Tls {
 protected:
  static ServerOptions impatient() {
    ServerOptions options = encrypted();
    options.header_timeout = milliseconds(300);
    options.blocked_timeout = milliseconds(300);
    options.heartbeat = milliseconds(100);
    return options;
  }
  TlsTimeouts() : Tls(impatient()) {}
};

TEST_F(TlsTimeouts, OneThatTakesNothingIsDropped) {
  TlsClient client = open("/sse/A/1", {0, "", 4096});
  ASSERT_TRUE(client.read_until("connected"));
  ASSERT_TRUE(site_.wait_for_streams(1));
  site_.publish({{"A:1", "", std::string(5000000, 'x')}});
  EXPECT_TRUE(site_.wait_for_streams(0));
  EXPECT_EQ(site_.server.counters().ends[static_cast<std::size_t>(StreamEnd::blocked)], 1u);
}

TEST_F(TlsTimeouts, OneThatReadsSlowlyButSteadilyIsNot) {
  TlsClient client = open("/sse/A/1", {0, "", 4096});
  ASSERT_TRUE(client.read_until("connected"));
  site_.publish({{"A:1", "", std::string(300000, 'x')}});
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() < begin + milliseconds(1200)) {
    ASSERT_TRUE(client.read_some(4000));
    eventually([] { return false; }, milliseconds(10));
  }
  EXPECT_TRUE(client.read_until("id: e-1\n\n"));
}

TEST_F(TlsTimeouts, AnIdleStreamGetsItsHeartbeats) {
  TlsClient client = open();
  EXPECT_TRUE(client.read_until("\n\n:\n:\n:\n"));
}

TEST_F(TlsTimeouts, AHandshakeThatIsNotFinishedIsClosed) {
  Client silent(site_.port());
  Client half(site_.port(), std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
  EXPECT_TRUE(silent.read_to_end());
  EXPECT_TRUE(half.read_to_end());
  TlsClient no_request(site_.port());
  EXPECT_TRUE(no_request.connected());
  EXPECT_TRUE(no_request.read_to_end());
}

TEST_F(Tls, WhatIsNoHandshakeEndsTheConnectionAndNoOther) {
  TlsClient witness = open();
  ASSERT_TRUE(witness.read_until("connected"));
  std::minstd_rand random(3);
  for (int i = 0; i < 50; ++i) {
    std::string garbage(1 + random() % 2000, '\0');
    for (char& c : garbage) c = static_cast<char>(random());
    if (i % 2 == 0) garbage.replace(0, std::min<std::size_t>(3, garbage.size()), "\x16\x03\x01", 3);
    Client client(site_.port());
    client.send(garbage);
    client.finish_sending();
    EXPECT_TRUE(client.read_to_end());
  }
  for (int i = 0; i < 20; ++i) Client(site_.port(), "\x16\x03\x01").reset();
  site_.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(witness.read_until("data: x\nid: e-1\n\n"));
}

TEST_F(Tls, AClientCutMidRecordLeavesNothing) {
  for (int i = 0; i < 10; ++i) {
    TlsClient client = open("/sse/A/1", {0, "", 4096});
    ASSERT_TRUE(client.read_until("connected"));
    ASSERT_TRUE(site_.wait_for_streams(1));
    site_.publish({{"A:1", "", std::string(200000, 'x')}});
    client.read_some(100);
    client.reset();
    ASSERT_TRUE(site_.wait_for_streams(0));
  }
}

TEST_F(Tls, PlainHttpIsToldToSpeakTls) {
  Client client(site_.port(), get("/hello"));
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 400 Bad Request\r\n")) << client.received();
  EXPECT_NE(client.received().find("write https://"), std::string::npos);
}

TEST_F(Tls, GarbageOnAnOpenStreamEndsIt) {
  TlsClient client = open();
  ASSERT_TRUE(client.read_until("connected"));
  ASSERT_TRUE(site_.wait_for_streams(1));
  client.socket().send("this is no record at all, and long enough to be seen as one");
  EXPECT_TRUE(site_.wait_for_streams(0));
}

TEST_F(Tls, WhatAClientSaysOnItsStreamIsIgnored) {
  TlsClient client = open();
  ASSERT_TRUE(client.read_until("connected"));
  for (int i = 0; i < 20; ++i) client.send(std::string(10000, 'y'));
  site_.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(client.read_until("data: x\nid: e-1\n\n"));
}

TEST_F(Tls, ACloseNotifyLeavesTheOtherDirectionOpen) {
  TlsClient client = open();
  ASSERT_TRUE(client.read_until("connected"));
  client.finish_sending();
  site_.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(client.read_until("data: x\nid: e-1\n\n"));
  client.reset();
  EXPECT_TRUE(site_.wait_for_streams(0));
}

TEST_F(Tls, KeysCanBeRenewedUnderWay) {
  TlsClient client = open("/sse/A/1", {TLS1_3_VERSION, "", 0});
  ASSERT_TRUE(client.read_until("connected"));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(client.ask_for_new_keys());
    site_.publish({{"A:1", "", "x"}});
    ASSERT_TRUE(client.read_until("id: e-" + std::to_string(i + 1) + "\n\n"));
  }
}

TEST_F(Tls, KeysRenewedByOneThatTakesNothingEndItsStreamOnly) {
  TlsClient stalled = open("/sse/A/1", {TLS1_3_VERSION, "", 4096});
  TlsClient witness = open("/sse/B/1");
  ASSERT_TRUE(stalled.read_until("connected"));
  ASSERT_TRUE(witness.read_until("connected"));
  site_.publish({{"A:1", "", std::string(5000000, 'x')}});
  ASSERT_TRUE(eventually([&] { return site_.server.counters().deferred > 0; }));
  for (int i = 0; i < 100 && stalled.ask_for_new_keys(); ++i) {
  }
  EXPECT_TRUE(site_.wait_for_streams(1));
  site_.publish({{"B:1", "", "x"}});
  EXPECT_TRUE(witness.read_until("data: x"));
}

TEST_F(Tls, ThereIsNoRenegotiation) {
  TlsClient client = open("/sse/A/1", {TLS1_2_VERSION, "", 0});
  ASSERT_TRUE(client.read_until("connected"));
  EXPECT_FALSE(client.renegotiate());
}

TEST_F(Tls, ANewCertificateIsForNewConnections) {
  TlsClient old = open();
  ASSERT_TRUE(old.read_until("connected"));
  EXPECT_EQ(old.name(), "localhost");
  const Certificate next("next.example", {std::chrono::hours(24 * 365), true, ""});
  const auto context = next.context();
  site_.server.use_tls(context);
  EXPECT_EQ(site_.server.counters().certificate_expires,
            std::chrono::system_clock::to_time_t(context->expires()));
  ASSERT_TRUE(eventually([&] { return TlsClient(site_.port()).name() == "next.example"; }));
  site_.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(old.read_until("data: x"));
}

TEST_F(Tls, ManyBytesOfManyFramesGoIntoFewRecords) {
  TlsClient client = open();
  ASSERT_TRUE(client.read_until("\n\n"));
  const std::uint64_t before = site_.server.counters().sends;
  std::vector<Message> messages(60, {"A:1", "", "tiny"});
  site_.publish(messages);
  ASSERT_TRUE(client.read_until("id: e-60\n\n"));
  EXPECT_LE(site_.server.counters().sends - before, 3u);
}

TEST(TlsFilesTest, WhatIsWrongWithThemIsSaid) {
  const Certificate good;
  const Certificate other("other");
  const Certificate rsa("rsa", {std::chrono::hours(24), true, ""});
  const Certificate locked("locked", {std::chrono::hours(24), false, "secret"});
  const auto complaint = [](const std::string& cert, const std::string& key) -> std::string {
    try {
      const TlsContext context(cert, key);
      return "";
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  };
  const auto has = [](const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
  };
  EXPECT_EQ(complaint(good.certificate(), good.key()), "");
  EXPECT_TRUE(has(complaint("/no/such.pem", good.key()), "/no/such.pem cannot be read"));
  EXPECT_TRUE(has(complaint(good.certificate(), "/no/such.pem"), "/no/such.pem cannot be read"));
  EXPECT_TRUE(has(complaint(good.key(), good.key()), "has no certificate in PEM form"));
  EXPECT_TRUE(has(complaint(good.certificate(), good.certificate()), "has no private key"));
  EXPECT_TRUE(has(complaint(good.certificate(), other.key()), "is not the key of"));
  EXPECT_TRUE(has(complaint(good.certificate(), rsa.key()), "is not the key of"));
  EXPECT_TRUE(has(complaint(locked.certificate(), locked.key()), "openssl pkey -in"));
  std::ofstream(good.key()) << "";
  EXPECT_TRUE(has(complaint(good.certificate(), good.key()), "cannot be read"));
}

}  // namespace
}  // namespace spillway::sse::test
