// Requests that are slow, torn, absurd or meant to confuse, over real sockets: each is answered or
// dropped as documented, and nothing of it stays behind: no session, no stream, no open file.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

std::size_t open_files() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

std::size_t count_of(const std::string& text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Status lines; the text of an error may speak of HTTP/1.1 as well.
std::size_t answers_in(const std::string& text) {
  return count_of(text, "HTTP/1.1 ") - count_of(text, "an HTTP/1.1 request");
}

class Hostile : public testing::Test {
 protected:
  static ServerOptions options() {
    ServerOptions options;
    options.header_timeout = milliseconds(300);
    options.body_timeout = milliseconds(300);
    options.body_bytes = 10000;
    return options;
  }

  Hostile() : site_(options(), {}, false) {
    site_.server.route("POST", "/echo", Right::none, [](HttpRequest request, Respond respond) {
      respond({200, "text/plain", "echo " + request.body, {}});
    });
    site_.server.route("GET", "/hello", Right::none, [](HttpRequest, Respond respond) {
      respond({200, "text/plain", "hello", {}});
    });
    site_.server.route("GET", "/large", Right::none, [](HttpRequest, Respond respond) {
      respond({200, "text/plain", std::string(16u << 20, 'x'), {}});
    });
    site_.server.route("GET", "/held", Right::none, [this](HttpRequest, Respond respond) {
      const std::lock_guard lock(mutex_);
      held_.push_back(std::move(respond));
    });
    site_.hub.start(site_.line);
    site_.server.start();
    EXPECT_TRUE(answer(get("/hello", "Connection: close\r\n")).starts_with("HTTP/1.1 200 "));
    EXPECT_TRUE(eventually([this] { return site_.server.counters().sessions == 0; }));
    files_ = open_files();
  }

  void TearDown() override {
    held_.clear();
    EXPECT_TRUE(eventually([this] {
      return site_.server.counters().sessions == 0 && site_.server.streams() == 0;
    })) << site_.server.counters().sessions
        << " sessions, " << site_.server.streams() << " streams are left";
    EXPECT_TRUE(eventually([this] { return open_files() == files_; }))
        << open_files() << " files, not " << files_;
    // And it serves as before.
    EXPECT_TRUE(answer(get("/hello", "Connection: close\r\n")).starts_with("HTTP/1.1 200 "));
  }

  // All that comes back until the server ends the connection, which it has to.
  std::string answer(std::string_view request) {
    Client client(site_.port(), request);
    EXPECT_TRUE(client.read_to_end()) << request.substr(0, 200);
    return client.received();
  }
  std::size_t held() {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }

  std::mutex mutex_;
  std::vector<Respond> held_;
  Site site_;
  std::size_t files_ = 0;
};

struct Odd {
  const char* name;
  std::string request;
  std::string status;  // of the only answer; empty: dropped without one
};

std::string post(const std::string& headers, const std::string& body) {
  return "POST /echo HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body;
}

class HostileRequest : public Hostile, public testing::WithParamInterface<Odd> {};

TEST_P(HostileRequest, IsAnsweredOnceOrDropped) {
  const std::string received = answer(GetParam().request);
  if (GetParam().status.empty()) {
    EXPECT_EQ(received, "");
    return;
  }
  EXPECT_TRUE(received.starts_with("HTTP/1.1 " + GetParam().status + " "))
      << received.substr(0, 200);
  EXPECT_EQ(answers_in(received), 1u) << received.substr(0, 500);
  EXPECT_EQ(received.find("\r\n\r\nhello"), std::string::npos) << "the hidden request was served";
}

std::string many_headers() {
  std::string headers;
  for (int i = 0; i < 10000; ++i) headers += "X" + std::to_string(i) + ": y\r\n";
  return headers;
}

const std::string kHidden = get("/hello");

INSTANTIATE_TEST_SUITE_P(
    Requests, HostileRequest,
    testing::Values(
        Odd{"SaysNothing", "", ""},  //
        Odd{"HalfALine", "GET /hel", "408"},
        Odd{"AMethodOfItsOwn", "BREW /hello HTTP/1.1\r\nConnection: close\r\n\r\n", "405"},
        Odd{"AMethodInSmallLetters", "get /hello HTTP/1.1\r\nConnection: close\r\n\r\n", "405"},
        Odd{"AMethodWithoutEnd", std::string(50000, 'M') + " / HTTP/1.1\r\n\r\n", "431"},
        Odd{"NoMethod", " /hello HTTP/1.1\r\n\r\n", "400"},
        Odd{"AnOldVersionWithout", "GET /hello\r\n\r\n", "400"},
        Odd{"Http2InClear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
        Odd{"ATlsHello", std::string("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 11), "400"},
        Odd{"AnSshClient", "SSH-2.0-OpenSSH_9.2\r\n", "400"},
        Odd{"ATargetWithoutEnd", "GET /" + std::string(200000, 'a') + " HTTP/1.1\r\n\r\n", "431"},
        Odd{"AHeaderWithoutEnd", get("/hello", "A: " + std::string(200000, 'a') + "\r\n"), "431"},
        Odd{"TenThousandHeaders", get("/hello", many_headers()), "431"},
        Odd{"NulInTheTarget", std::string("GET /he\0llo HTTP/1.1\r\n\r\n", 24), "400"},
        Odd{"NulInAHeader", std::string("GET /hello HTTP/1.1\r\nA: b\0c\r\n\r\n", 32), "400"},
        Odd{"LfWithoutCr", "GET /hello HTTP/1.1\nHost: x\n\n", "400"},
        Odd{"CrWithoutLf", "GET /hello HTTP/1.1\rHost: x\r\r", "400"},
        Odd{"ASpaceBeforeTheColon", get("/hello", "Content-Length : 3\r\n"), "400"},
        Odd{"AHeaderWithoutAName", get("/hello", ": x\r\n"), "400"},
        Odd{"ContentLengthTwice",
            post("Content-Length: 3\r\nContent-Length: 40\r\n", "abc" + kHidden), "400"},
        Odd{"ContentLengthsInOne", post("Content-Length: 3, 40\r\n", "abc" + kHidden), "400"},
        Odd{"ANegativeContentLength", post("Content-Length: -3\r\n", "abc"), "400"},
        Odd{"AContentLengthWithASign", post("Content-Length: +3\r\n", "abc"), "400"},
        Odd{"AContentLengthBeyondAll", post("Content-Length: 99999999999999999999999\r\n", "abc"),
            "400"},
        Odd{"AHugeContentLength", post("Content-Length: 9223372036854775807\r\n", "abc"), "413"},
        Odd{"LengthAndChunks",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" + kHidden),
            "400"},
        Odd{"ChunksAndLength",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" + kHidden),
            "400"},
        Odd{"ChunksThatAreNone", post("Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n"),
            "400"},
        Odd{"AChunkBeyondAll",
            post("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFFFF\r\nabc\r\n"), "400"},
        Odd{"AChunkThatIsTooLarge", post("Transfer-Encoding: chunked\r\n", "FFFFFF\r\nabc\r\n"),
            "413"},
        Odd{"AChunkWithoutItsEnd", post("Transfer-Encoding: chunked\r\n", "3\r\nabcX0\r\n\r\n"),
            "400"},
        Odd{"ABodyThatNeverComes", post("Content-Length: 10\r\n", "abc"), "408"},
        Odd{"AStreamAskedForWithPost", "POST /sse/A/1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "405"},
        Odd{"AStreamNotPercentEncoded", get("/sse/A/%zz"), "400"}),
    [](const auto& one) { return std::string(one.param.name); });

TEST_F(Hostile, AHeaderThatTricklesIsCutOffAtItsTimeHoweverBusyItIs) {
  Client client(site_.port());
  const std::string request = get("/hello", "X: " + std::string(5000, 'x') + "\r\n");
  for (const char c : request) {
    if (!client.send({&c, 1})) break;
    if (!client.read_some(1000, milliseconds(5)) && client.ended()) break;
  }
  EXPECT_TRUE(client.read_to_end());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 408 ")) << client.received();
}

TEST_F(Hostile, ABodyThatTricklesIsCutOffAtItsTime) {
  Client client(site_.port(), post("Content-Length: 9000\r\n", ""));
  for (int i = 0; i < 9000; ++i) {
    if (!client.send("x")) break;
    if (!client.read_some(1000, milliseconds(5)) && client.ended()) break;
  }
  EXPECT_TRUE(client.read_to_end());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 408 ")) << client.received();
}

TEST_F(Hostile, WhatNeverEndsIsNotCollected) {
  ServerOptions patient;
  patient.body_timeout = milliseconds(60000);
  Site site(patient, {}, false);
  site.server.route("POST", "/echo", Right::none, [](HttpRequest, Respond respond) {
    respond({200, "text/plain", "echo", {}});
  });
  site.hub.start(site.line);
  site.server.start();
  // The size of a chunk, with an extension that goes on and on.
  Client client(site.port(), post("Transfer-Encoding: chunked\r\n", "5;"));
  const std::string much(1u << 20, 'x');
  for (int i = 0; i < 64 && client.send(much); ++i) {
  }
  EXPECT_TRUE(client.read_to_end());
  EXPECT_EQ(client.received().find("408"), std::string::npos) << client.received();
  EXPECT_TRUE(eventually([&] { return site.server.counters().sessions == 0; }));
}

TEST_F(Hostile, AnAnswerThatNobodyReadsIsGivenUp) {
  Client client(site_.port(), 4096);
  client.send(get("/large"));
  ASSERT_TRUE(eventually([this] { return site_.server.counters().sessions == 1; }));
  EXPECT_TRUE(eventually([this] { return site_.server.counters().sessions == 0; }));
}

TEST_F(Hostile, AFoldedHeaderHidesNothing) {
  // Some parsers see a Transfer-Encoding here, some do not: it is refused, or it is a space.
  const std::string received = answer(post(
      "Content-Length: 3\r\nConnection: close\r\nX: a\r\n Transfer-Encoding: chunked\r\n", "abc"));
  EXPECT_EQ(answers_in(received), 1u) << received;
  EXPECT_TRUE(received.starts_with("HTTP/1.1 400 ") || received.ends_with("echo abc")) << received;
}

TEST_F(Hostile, AnUnknownTransferEncodingIsNotTakenForABody) {
  for (const char* coding : {"xchunked", "chunked, gzip", "identity",
                             "\x0b"
                             "chunked"}) {
    const std::string received = answer(
        post(std::string("Connection: close\r\nTransfer-Encoding: ") + coding + "\r\n", kHidden));
    EXPECT_LE(answers_in(received), 1u) << coding << received;
    EXPECT_EQ(received.find("\r\n\r\nhello"), std::string::npos) << coding;
  }
}

TEST_F(Hostile, Http10IsAnsweredAndEnded) {
  EXPECT_TRUE(answer("GET /hello HTTP/1.0\r\n\r\n").ends_with("hello"));
  Client stream(site_.port(), "GET /sse/A/1 HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(stream.read_until("connected"));
  site_.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(stream.read_until("data: x"));
}

TEST_F(Hostile, WhoClosesItsSendingSideIsAnsweredAllTheSame) {
  Client whole(site_.port(), get("/hello"));
  whole.finish_sending();
  EXPECT_TRUE(whole.read_to_end());
  EXPECT_TRUE(whole.received().ends_with("hello"));
  Client half(site_.port(), "GET /hel");
  half.finish_sending();
  EXPECT_TRUE(half.read_to_end());
  EXPECT_EQ(half.received(), "");
  Client body(site_.port(), post("Content-Length: 10\r\n", "abc"));
  body.finish_sending();
  EXPECT_TRUE(body.read_to_end());
  EXPECT_EQ(body.received(), "");
}

TEST_F(Hostile, ManyRequestsAtOnceAndAStreamBehindThem) {
  std::string requests;
  for (int i = 0; i < 10; ++i) requests += get("/hello");
  Client client(site_.port(), requests + get("/sse/A/1") + get("/hello") + "and nonsense\r\n\r\n");
  ASSERT_TRUE(client.read_until("connected"));
  EXPECT_EQ(count_of(client.received(), "\r\n\r\nhello"), 10u);
  client.send(std::string(100000, 'z'));
  site_.publish({{"A:1", "", "x"}});
  ASSERT_TRUE(client.read_until("data: x\nid: e-1\n\n"));
  EXPECT_EQ(answers_in(client.received()), 11u) << "what came behind was answered";
}

TEST_F(Hostile, APipelineThatNeverReadsIsGivenUp) {
  Client client(site_.port(), 4096);
  std::string requests;
  for (int i = 0; i < 20000; ++i) requests += "GET /hello HTTP/1.1\r\n\r\n";
  client.send(requests.substr(0, 100000));
  ASSERT_TRUE(eventually([this] { return site_.server.counters().sessions == 1; }));
  EXPECT_TRUE(eventually([this] { return site_.server.counters().sessions == 0; }));
}

TEST_F(Hostile, ThoseWhoLeaveInAnyStateLeaveNothingBehind) {
  site_.publish({{"A:1", "", "x"}});
  site_.source.set_mode(FakeReplaySource::Mode::hold);
  const std::vector<std::function<void(Client&)>> states = {
      [](Client&) {},
      [](Client& c) { c.send("GE"); },
      [](Client& c) { c.send(get("/hello").substr(0, 30)); },
      [](Client& c) { c.send(post("Content-Length: 10\r\n", "abc")); },
      [](Client& c) { c.send(post("Transfer-Encoding: chunked\r\n", "5\r\nab")); },
      [](Client& c) { c.send(get("/hello")); },
      [this](Client& c) {
        const std::size_t before = held();
        c.send(get("/held") + get("/hello"));
        EXPECT_TRUE(eventually([&] { return held() == before + 1; }));
      },
      [](Client& c) {
        c.send(get("/large"));
        EXPECT_TRUE(c.read_some(1000, kPatience));
      },
      [](Client& c) {
        c.send(get("/nothing") + std::string(1000, 'x'));
        EXPECT_TRUE(c.read_until("404"));
      },
      [](Client& c) { c.send(get("/sse/A/1")); },
      [](Client& c) {
        c.send(get("/sse/A/1"));
        EXPECT_TRUE(c.read_until("connected"));
      },
      [this](Client& c) {
        const std::size_t before = site_.source.held();
        c.send(get("/sse/A/1?last_event_id=earliest"));
        EXPECT_TRUE(eventually([&] { return site_.source.held() == before + 1; }));
      },
  };
  for (int how = 0; how < 3; ++how) {
    for (const auto& state : states) {
      Client client(site_.port(), 4096);
      state(client);
      if (how == 0) client.close();
      if (how == 1) client.reset();
      if (how == 2) client.finish_sending();
    }
    site_.source.release();
  }
  {
    const std::lock_guard lock(mutex_);
    for (Respond& respond : held_) respond({200, "text/plain", "late", {}});
    held_.clear();
  }
}

}  // namespace
}  // namespace spillway::sse::test
