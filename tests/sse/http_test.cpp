// Plain HTTP over real sockets: routes, errors, limits, keep-alive, and the end of a server.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <thread>

#include "sse/drain_pace.hpp"
#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

// Sends and reads to the end of the connection; the request has to be one that ends it.
std::string exchange(std::uint16_t port, std::string_view request) {
  Client client(port, request);
  EXPECT_TRUE(client.read_to_end());
  return client.received();
}

std::string post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(headers) + "\r\n" + std::string(body);
}

std::string error_of(const std::string& response) {
  return nlohmann::json::parse(body_of(response)).at("error").get<std::string>();
}

// The `retry:` that a stream ended with.
std::optional<int> last_word_of(const std::string& response) {
  const auto at = response.rfind("retry: ");
  if (at == std::string::npos || response.find('\n', at) + 1 != response.size()) return {};
  return std::stoi(response.substr(at + 7));
}

struct Echo {
  explicit Echo(ServerOptions options = {}, HubOptions hub_options = {})
      : site(options, hub_options, false) {
    site.server.route("POST", "/echo", Right::none, [](HttpRequest request, Respond respond) {
      HttpResponse response;
      response.content_type = "text/plain";
      response.body = request.method + " " + request.path + "?" + request.query + " " +
                      request.content_type + " " + request.body;
      respond(std::move(response));
    });
    site.server.route("GET", "/hello", Right::none, [](HttpRequest, Respond respond) {
      respond({200, "text/plain", "hello", {{"X-Extra", "1"}}});
    });
    site.server.route("GET", "/later", Right::none, [this](HttpRequest, Respond respond) {
      threads.emplace_back([respond] { respond({202, "application/json", "{}", {}}); });
    });
    site.server.route("GET", "/forgotten", Right::none, [](HttpRequest, Respond) {});
    site.server.route("GET", "/throws", Right::none,
                      [](HttpRequest, Respond) { throw std::runtime_error("no"); });
    site.server.route("GET", "/twice", Right::none, [](HttpRequest, Respond respond) {
      respond({200, "text/plain", "one", {}});
      respond({200, "text/plain", "two", {}});
    });
    site.server.route("GET", "/held", Right::none, [this](HttpRequest, Respond respond) {
      const std::lock_guard lock(mutex);
      held.push_back(std::move(respond));
    });
    site.hub.start(site.line);
    site.server.start();
  }
  ~Echo() {
    site.server.stop(milliseconds(0));
    for (std::thread& thread : threads) thread.join();
  }
  std::size_t held_count() {
    const std::lock_guard lock(mutex);
    return held.size();
  }

  std::vector<std::thread> threads;
  std::mutex mutex;
  std::vector<Respond> held;
  Site site;
};

TEST(Http, ARouteIsAnsweredByteForByte) {
  Echo echo;
  EXPECT_EQ(exchange(echo.site.port(), get("/hello", "Connection: close\r\n")),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nX-Extra: 1\r\n"
            "Connection: close\r\n\r\nhello");
}

TEST(Http, AHandlerGetsMethodPathQueryTypeAndBody) {
  Echo echo;
  const std::string response = exchange(
      echo.site.port(), post("/ec%68o?a=%20b", "the body",
                             "Content-Type: Text/JSON; charset=utf-8\r\nConnection: close\r\n"));
  EXPECT_EQ(body_of(response), "POST /echo?a=%20b text/json the body");
}

TEST(Http, HeadIsServedByGetWithoutTheBody) {
  Echo echo;
  EXPECT_EQ(exchange(echo.site.port(), "HEAD /hello HTTP/1.1\r\nConnection: close\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nX-Extra: 1\r\n"
            "Connection: close\r\n\r\n");
}

TEST(Http, PipelinedRequestsAreAnsweredInOrder) {
  Echo echo;
  Client client(echo.site.port(), get("/later") + post("/echo", "1") + get("/nothing") +
                                      get("/hello") + get("/twice") +
                                      get("/hello", "Connection: close\r\n"));
  ASSERT_TRUE(client.read_to_end());
  std::size_t at = 0;
  for (const char* expected : {"202 Accepted", "POST /echo?  1", "404 Not Found", "hello", "one",
                               "\r\nConnection: close\r\n\r\nhello"}) {
    at = client.received().find(expected, at);
    ASSERT_NE(at, std::string::npos) << expected;
    ++at;
  }
}

TEST(Http, AnErrorInFrontOfAnUnreadBodyEndsTheConnection) {
  Echo echo;
  const std::string response = exchange(
      echo.site.port(), "POST /nothing HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + get("/hello"));
  EXPECT_TRUE(response.starts_with("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_EQ(response.find("HTTP/1.1 200"), std::string::npos);
}

TEST(Http, AConnectionServesManyRequestsAndThenAStream) {
  Echo echo;
  Client client(echo.site.port(), get("/hello"));
  for (std::size_t i = 1; i < 20; ++i) {
    ASSERT_TRUE(client.read_until([i](const std::string& all) {
      std::size_t count = 0;
      for (auto at = all.find("\r\n\r\nhello"); at != std::string::npos;
           at = all.find("\r\n\r\nhello", at + 1))
        ++count;
      return count == i;
    }));
    client.send(get("/hello"));
  }
  client.send(get("/sse/A/1"));
  ASSERT_TRUE(client.read_until("connected"));
  echo.site.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(client.read_until("data: x\nid: e-1\n\n"));
}

TEST(Http, UnknownPathIs404WithWhatThereIs) {
  Echo echo;
  const std::string response = exchange(echo.site.port(), get("/nope", "Connection: close\r\n"));
  EXPECT_TRUE(response.starts_with("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_NE(error_of(response).find("/sse/{stream_type}/{channel}"), std::string::npos);
  EXPECT_NE(error_of(response).find("GET /hello"), std::string::npos);
}

TEST(Http, WrongMethodIs405WithAllow) {
  Echo echo;
  EXPECT_NE(exchange(echo.site.port(), post("/hello", "", "Connection: close\r\n"))
                .find("Allow: GET, HEAD\r\n"),
            std::string::npos);
  EXPECT_NE(
      exchange(echo.site.port(), get("/echo", "Connection: close\r\n")).find("Allow: POST\r\n"),
      std::string::npos);
  const std::string stream = exchange(echo.site.port(), post("/sse/A/1", ""));
  EXPECT_TRUE(stream.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_NE(stream.find("Allow: GET, HEAD\r\n"), std::string::npos);
  EXPECT_FALSE(error_of(stream).empty());
}

TEST(Http, ABadChannelIs400WithAReason) {
  ServerOptions options;
  options.channels_per_connection = 2;
  Echo echo(options);
  for (const char* target : {"/sse", "/sse/A", "/sse/A/", "/sse/A/%zz", "/sse?channel=*",
                             "/sse?channel=", "/sse?channel=a&channel=b&channel=c"}) {
    const std::string response = exchange(echo.site.port(), get(target));
    EXPECT_TRUE(response.starts_with("HTTP/1.1 400 Bad Request\r\n")) << target;
    EXPECT_NE(response.find("Content-Type: application/json\r\n"), std::string::npos);
    EXPECT_NE(error_of(response).find("write"), std::string::npos) << target;
  }
}

TEST(Http, WhatIsNotHttpIs400) {
  Echo echo;
  for (const char* request :
       {"hello\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01\r\n\r\n", "POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n"}) {
    const std::string response = exchange(echo.site.port(), request);
    EXPECT_TRUE(response.starts_with("HTTP/1.1 400 Bad Request\r\n")) << request;
  }
}

TEST(Http, LargeHeadersAre431) {
  ServerOptions options;
  options.header_bytes = 1024;
  Echo echo(options);
  const std::string response =
      exchange(echo.site.port(), get("/hello", "X: " + std::string(200000, 'x') + "\r\n"));
  EXPECT_TRUE(response.starts_with("HTTP/1.1 431 ")) << response.substr(0, 100);
  EXPECT_NE(error_of(response).find("1024"), std::string::npos);
}

TEST(Http, ALargeBodyIs413WhetherAnnouncedOrNot) {
  ServerOptions options;
  options.body_bytes = 1000;
  Echo echo(options);
  const std::string announced = exchange(echo.site.port(), post("/echo", std::string(5000, 'x')));
  EXPECT_TRUE(announced.starts_with("HTTP/1.1 413 ")) << announced.substr(0, 100);
  const std::string chunked = exchange(
      echo.site.port(), "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" +
                            std::string(5000, 'x') + "\r\n0\r\n\r\n");
  EXPECT_TRUE(chunked.starts_with("HTTP/1.1 413 ")) << chunked.substr(0, 100);
}

TEST(Http, ASlowHeaderIs408AndASilentConnectionIsClosed) {
  ServerOptions options;
  options.header_timeout = milliseconds(100);
  Echo echo(options);
  EXPECT_TRUE(exchange(echo.site.port(), "GET /hel").starts_with("HTTP/1.1 408 Request Timeout"));
  EXPECT_EQ(exchange(echo.site.port(), ""), "");
}

TEST(Http, ASlowBodyIs408) {
  ServerOptions options;
  options.body_timeout = milliseconds(100);
  Echo echo(options);
  EXPECT_TRUE(exchange(echo.site.port(), "POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")
                  .starts_with("HTTP/1.1 408 Request Timeout"));
}

TEST(Http, ExpectContinueIsAnswered) {
  Echo echo;
  Client client(echo.site.port(),
                "POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(client.read_until("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("abc");
  EXPECT_TRUE(client.read_until("POST /echo?  abc"));
}

TEST(Http, AHandlerThatThrowsOrForgetsIs500) {
  Echo echo;
  EXPECT_TRUE(exchange(echo.site.port(), get("/throws", "Connection: close\r\n"))
                  .starts_with("HTTP/1.1 500 "));
  EXPECT_TRUE(exchange(echo.site.port(), get("/forgotten", "Connection: close\r\n"))
                  .starts_with("HTTP/1.1 500 "));
}

TEST(Http, TheFirstOfTwoAnswersCounts) {
  Echo echo;
  EXPECT_EQ(body_of(exchange(echo.site.port(), get("/twice", "Connection: close\r\n"))), "one");
}

TEST(Http, AnAnswerAfterTheClientHasGoneIsDropped) {
  Echo echo;
  {
    Client client(echo.site.port(), get("/held"));
    ASSERT_TRUE(eventually([&] { return echo.held_count() == 1; }));
    client.reset();
  }
  echo.held.front()({200, "text/plain", "late", {}});
  EXPECT_EQ(body_of(exchange(echo.site.port(), get("/hello", "Connection: close\r\n"))), "hello");
}

TEST(Http, OverTheLimitStreamsAreToldToComeBackAndRoutesStillServed) {
  ServerOptions options;
  options.max_connections = 2;
  Echo echo(options);
  Client one = echo.site.open("/sse/A/1");
  Client two = echo.site.open("/sse/A/1");
  ASSERT_TRUE(one.read_until("connected"));
  ASSERT_TRUE(two.read_until("connected"));
  const std::string refused = exchange(echo.site.port(), get("/sse/A/1"));
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
  EXPECT_TRUE(body_of(refused).starts_with("retry: "));
  EXPECT_TRUE(body_of(refused).ends_with("\n: this server has its limit of 2 connections\n\n"));
  EXPECT_EQ(body_of(exchange(echo.site.port(), get("/hello"))), "hello");
  one.close();
  ASSERT_TRUE(eventually([&] {
    Client again = echo.site.open("/sse/A/1");
    return again.read_until([](const std::string& all) {
      return all.find("\n\n") != std::string::npos;
    }) && again.received().find("connected") != std::string::npos;
  }));
  echo.site.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(two.read_until("data: x"));  // nobody old made way
}

TEST(Http, RunningOutOfDescriptorsPausesAcceptingAndGoesOn) {
  Echo echo;
  Client before = echo.site.open("/sse/A/1");
  ASSERT_TRUE(before.read_until("connected"));
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  // The client's own descriptor exists already, so the next to be refused is the server's.
  Client waiting(echo.site.port());
  ASSERT_TRUE(waiting.send(get("/hello")));
  ASSERT_TRUE(waiting.read_until("hello"));
  rlimit none = old;
  none.rlim_cur = 64;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::vector<Client> clients;
  try {
    for (;;) clients.emplace_back(echo.site.port());
  } catch (const std::runtime_error&) {
  }
  for (Client& client : clients) client.send(get("/hello"));
  echo.site.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(before.read_until("data: x"));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  for (Client& client : clients) EXPECT_TRUE(client.read_until("hello"));
}

TEST(Server, StopWritesWhatIsPendingAndEndsStreams) {
  Echo echo;
  Client client = echo.site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("connected"));
  const std::string large(500000, 'x');
  echo.site.publish({{"A:1", "", large}, {"A:1", "", "last"}});
  std::thread stopping([&] { echo.site.server.stop(milliseconds(5000)); });
  EXPECT_TRUE(client.read_to_end());
  stopping.join();
  const std::string all =
      opening("A:1", 0) + "data: " + large + "\nid: e-1\n\ndata: last\nid: e-2\n\n";
  EXPECT_EQ(client.received().substr(0, all.size()), all);
  const auto retry = last_word_of(client.received());
  ASSERT_TRUE(retry);
  EXPECT_EQ(client.received().substr(all.size()), "retry: " + std::to_string(*retry) + "\n");
  EXPECT_GE(*retry, 2000);
  EXPECT_LE(*retry, 6000);
  EXPECT_EQ(echo.site.server.streams(), 0u);
  echo.site.server.stop(milliseconds(5000));
}

TEST(Server, StopSpreadsTheEndOfManyStreamsWhichGoOnReceivingMeanwhile) {
  constexpr std::size_t kLater = 10;
  ServerOptions options;
  options.closed_per_second = 1;
  Echo echo(options);
  std::vector<Client> clients;
  for (std::size_t i = 0; i < DrainPace::kAtOnce + kLater; ++i)
    clients.push_back(echo.site.open("/sse/A/1"));
  for (Client& client : clients) ASSERT_TRUE(client.read_until("connected"));
  echo.site.publish({{"A:1", "", "before"}});
  std::thread stopping([&] { echo.site.server.stop(milliseconds(3000)); });
  EXPECT_TRUE(eventually([&] { return echo.site.server.streams() <= kLater; }));
  echo.site.publish({{"A:1", "", "meanwhile"}});
  stopping.join();
  std::size_t told = 0;
  std::set<int> retries;
  for (Client& client : clients) {
    ASSERT_TRUE(client.read_to_end());
    const auto retry = last_word_of(client.received());
    ASSERT_TRUE(retry) << client.received();
    retries.insert(*retry);
    const auto frames = frames_of(client.received());
    ASSERT_GE(frames.size(), 1u);
    EXPECT_EQ(frames.front().data, "before");
    if (frames.size() > 1) ++told;
  }
  EXPECT_GE(told, 1u);
  EXPECT_LE(told, kLater);
  EXPECT_GT(retries.size(), clients.size() / 2) << "they are all told the same";
}

TEST(Server, StopTellsAStreamThatWaitsForAPageToComeBack) {
  Site site({}, {}, false);
  site.commit({{"A:1", "", "1"}});
  site.hub.start(site.line);
  site.server.start();
  site.source.set_mode(FakeReplaySource::Mode::hold);
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; }));
  site.server.stop(milliseconds(5000));
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(body_of(client.received()).starts_with("retry: ")) << client.received();
  site.source.release();
}

TEST(Server, ThatTakesNoMoreConnectionsServesThoseItHas) {
  Echo echo;
  Client stream = echo.site.open("/sse/A/1");
  ASSERT_TRUE(stream.read_until("connected"));
  Client keeping(echo.site.port(), get("/hello"));
  ASSERT_TRUE(keeping.read_until("hello"));
  echo.site.server.stop_accepting();
  echo.site.server.stop_accepting();
  ASSERT_TRUE(eventually([&] {
    try {
      Client refused(echo.site.port());
      return false;
    } catch (const std::runtime_error&) {
      return true;
    }
  }));
  echo.site.publish({{"A:1", "", "still"}});
  EXPECT_TRUE(stream.read_until("data: still"));
  keeping.send(get("/later"));
  EXPECT_TRUE(keeping.read_until("202 Accepted"));
}

TEST(Server, StopWaitsForARequestInHand) {
  Echo echo;
  Client idle(echo.site.port());
  Client client(echo.site.port(), get("/held"));
  ASSERT_TRUE(eventually([&] { return echo.held_count() == 1; }));
  std::thread stopping([&] { echo.site.server.stop(milliseconds(10000)); });
  ASSERT_TRUE(idle.read_to_end());
  echo.held.front()({200, "text/plain", "done", {}});
  EXPECT_TRUE(client.read_to_end());
  EXPECT_EQ(body_of(client.received()), "done");
  stopping.join();
}

TEST(Server, StopClosesTheRestAtItsDeadline) {
  Echo echo;
  Client stalled(echo.site.port(), 4096);
  stalled.send(get("/sse/A/1"));
  ASSERT_TRUE(stalled.read_until("connected"));
  Client asking(echo.site.port(), get("/held"));
  ASSERT_TRUE(eventually([&] { return echo.held_count() == 1; }));
  echo.site.publish({{"A:1", "", std::string(20000000, 'x')}});
  const auto start = std::chrono::steady_clock::now();
  echo.site.server.stop(milliseconds(200));
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, milliseconds(200));
  EXPECT_LT(took, milliseconds(5000));
  EXPECT_EQ(echo.site.server.streams(), 0u);
  echo.held.front()({200, "text/plain", "late", {}});
  // Cut in the middle of a frame, it is told nothing that a parser could take for a part of it.
  stalled.read_to_end();
  EXPECT_LT(stalled.received().size(), 20000000u);
  EXPECT_FALSE(last_word_of(stalled.received()));
}

TEST(Server, AnAddressInUseIsAnErrorThatNamesIt) {
  Site site;
  ServerOptions options;
  options.listen.front().port = site.port();
  Server second(options, site.hub, site.source);
  try {
    second.start();
    FAIL() << "it started";
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find("127.0.0.1:" + std::to_string(site.port())),
              std::string::npos)
        << error.what();
  }
}

TEST(Server, ListensOnNamesAndBothFamilies) {
  for (const char* host : {"localhost", "127.0.0.1", "0.0.0.0", "::"}) {
    ServerOptions options;
    options.listen.front().host = host;
    Site site(options);
    Client client = site.open("/sse/A/1");
    EXPECT_TRUE(client.read_until("connected")) << host;
  }
  ServerOptions options;
  options.listen.front().host = "no.such.host.invalid";
  EXPECT_THROW(Site{options}, std::system_error);
}

TEST(Server, ASecondOneCanServeTheSameHub) {
  FakeReplaySource source;
  Hub hub({});
  hub.start({"e", 0, 0});
  ServerOptions options;
  options.listen.front().port = 0;
  for (int i = 0; i < 3; ++i) {
    Server server(options, hub, source);
    server.start();
    Client client(server.port(), get("/sse/A/1"));
    ASSERT_TRUE(client.read_until("connected"));
    hub.publish({static_cast<std::uint64_t>(i), 0, {{0, "A:1", "", "x", false}}});
    ASSERT_TRUE(client.read_until("id: e-" + std::to_string(i + 1) + "\n\n"));
  }
}

}  // namespace
}  // namespace spillway::sse::test
