// Who may, on the wire: tokens, Host, Origin and CORS before a real server.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "sse/auth_key.hpp"
#include "tests/sse/keys.hpp"
#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

std::int64_t wall_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string bearer(const std::string& token) {
  return "Authorization: Bearer " + token + "\r\n";
}

std::string error_of(const std::string& response) {
  return nlohmann::json::parse(body_of(response)).at("error").get<std::string>();
}

int status_of(const std::string& response) {
  return response.starts_with("HTTP/1.1 ") ? std::stoi(response.substr(9, 3)) : 0;
}

bool has_line(const std::string& response, const std::string& line) {
  return response.substr(0, response.find("\r\n\r\n") + 2).find("\r\n" + line + "\r\n") !=
         std::string::npos;
}

struct Guarded {
  explicit Guarded(ServerOptions options = with_keys()) : site(std::move(options), {}, false) {
    for (const auto& [path, right] :
         {std::pair{"/open", Right::none}, {"/status", Right::admin}, {"/query", Right::admin}})
      site.server.route("GET", path, right, [](HttpRequest request, Respond respond) {
        respond({200, "text/plain", "query " + request.query, {}});
      });
    site.server.route("POST", "/events", Right::publish, [](HttpRequest request, Respond respond) {
      respond({202, "text/plain", request.body, {}});
    });
    site.hub.start(site.line);
    site.server.start();
  }
  ~Guarded() { site.server.stop(milliseconds(0)); }

  static ServerOptions with_keys() {
    ServerOptions options;
    options.access.keys = std::make_shared<KeyRing>(std::vector{verification_key(kSecret)});
    return options;
  }

  // A request whose answer ends the connection, or a stream's beginning.
  std::string ask(const std::string& method, const std::string& target,
                  const std::string& headers = "", const std::string& body = "") {
    Client client(site.port(), method + " " + target +
                                   " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" +
                                   headers + "Content-Length: " + std::to_string(body.size()) +
                                   "\r\n\r\n" + body);
    client.read_until([](const std::string& all) { return all.find("connected") != all.npos; });
    return client.received();
  }
  int status(const std::string& method, const std::string& target,
             const std::string& headers = "") {
    return status_of(ask(method, target, headers));
  }

  Site site;
};

TEST(Access, WithoutATokenItIs401WithWhatToSend) {
  Guarded guarded;
  for (const char* target : {"/sse/A/1", "/sse?channel=A:1&channel=B:1", "/status"}) {
    const std::string response = guarded.ask("GET", target);
    EXPECT_EQ(status_of(response), 401) << target;
    EXPECT_TRUE(has_line(response, "WWW-Authenticate: Bearer")) << response;
    EXPECT_TRUE(has_line(response, "Content-Type: application/json"));
    EXPECT_NE(error_of(response).find("Authorization: Bearer"), std::string::npos);
    const std::string head = guarded.ask("HEAD", target);
    EXPECT_EQ(status_of(head), 401) << target;
    EXPECT_EQ(body_of(head), "");
  }
  EXPECT_EQ(guarded.status("POST", "/events"), 401);
  EXPECT_EQ(guarded.status("GET", "/open"), 200);
  EXPECT_EQ(guarded.status("GET", "/nothing"), 404);
  EXPECT_EQ(guarded.status("DELETE", "/status"), 405);
  EXPECT_EQ(guarded.status("POST", "/sse/A/1"), 405);
  EXPECT_EQ(guarded.status("GET", "/sse/A"), 400);
}

TEST(Access, ABadTokenIs401AndSaysWhy) {
  Guarded guarded;
  const std::string expired = guarded.ask("GET", "/sse/A/1", bearer(token(R"({"exp":1})")));
  EXPECT_EQ(status_of(expired), 401);
  EXPECT_TRUE(has_line(expired,
                       "WWW-Authenticate: Bearer error=\"invalid_token\", "
                       "error_description=\"the token has expired\""))
      << expired;
  EXPECT_EQ(error_of(expired), "the token has expired");
  const std::string forged = raw_token(kHs256, R"({"subscribe":["*"]})", std::string(32, 'x'));
  for (const std::string& headers :
       {bearer(forged), "Cookie: spillway_token=" + forged + "\r\n", bearer("x"), bearer("a.b.c")})
    EXPECT_EQ(guarded.status("GET", "/sse/A/1", headers), 401) << headers;
  EXPECT_EQ(guarded.status("GET", "/sse/A/1?access_token=" + forged), 401);
}

TEST(Access, ATokenComesByHeaderQueryOrCookieInThisOrder) {
  Guarded guarded;
  const std::string good = token(R"({"subscribe":["A:1"]})");
  const std::string bad = "bad";
  const std::string by_header = bearer(good);
  const std::string by_cookie = "Cookie: a=b; spillway_token=" + good + "; c=d\r\n";
  const std::string by_query = "/sse/A/1?access_token=" + good;
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", by_header), 200);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", "authorization: bEaReR   " + good + " \r\n"), 200);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", by_cookie), 200);
  EXPECT_EQ(guarded.status("GET", by_query), 200);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1?access_token=" + bad, by_header), 200);
  EXPECT_EQ(guarded.status("GET", by_query, "Cookie: spillway_token=bad\r\n"), 200);
  // The first that is there counts, also when it is bad.
  EXPECT_EQ(guarded.status("GET", by_query, bearer(bad)), 401);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1?access_token=" + bad, by_cookie), 401);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", bearer(bad) + by_cookie), 401);
  // Somebody else's password is no token.
  EXPECT_EQ(guarded.status("GET", by_query, "Authorization: Basic dTpw\r\n"), 200);
  EXPECT_EQ(guarded.status("GET", by_query + "&access_token=" + good), 401);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", by_header + by_header), 400);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", "Cookie: xspillway_token=" + good + "\r\n"), 401);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", "Cookie: Spillway_Token=" + good + "\r\n"), 401);
}

TEST(Access, ChannelsAreGrantedAllOrNone) {
  Guarded guarded;
  const std::string mine = bearer(token(R"({"subscribe":["A:1","B:*","C:item:*"]})"));
  for (const char* target :
       {"/sse/A/1", "/sse/B/x", "/sse?channel=B:*", "/sse?channel=A:1&channel=B:2",
        "/sse?channel=B:x:*&channel=C:item:*", "/sse/%41/%31"})
    EXPECT_EQ(guarded.status("GET", target, mine), 200) << target;
  for (const char* target : {"/sse/A/2",
                             "/sse/a/1",
                             "/sse?channel=A:*",
                             "/sse?channel=C:*",
                             "/sse/C/item",
                             "/sse?channel=A:1&channel=A:2",
                             "/sse?channel=A:2&channel=A:1",
                             "/sse/D/..%2FA:1",
                             "/sse/D/../A/1",
                             "/sse/A/1/../1",
                             "/sse/A/1%2F",
                             "/sse/A/%2A",
                             "/sse/A/%252A",
                             "/sse/A%2F1/x",
                             "/sse/%2A/%2A",
                             "/sse?channel=A%253A1",
                             "/sse?channel=%2A%2A",
                             "/sse/B%00/x",
                             "/sse/A/1%20",
                             "/sse/A/%EF%BC%91"}) {
    const std::string response = guarded.ask("GET", target, mine);
    // What is no channel's name is refused as such.
    EXPECT_TRUE(status_of(response) == 403 || status_of(response) == 400)
        << target << status_of(response);
    EXPECT_EQ(response.find("connected"), std::string::npos) << target;
    EXPECT_EQ(status_of(guarded.ask("HEAD", target, mine)), status_of(response));
  }
  EXPECT_NE(error_of(guarded.ask("GET", "/sse?channel=A:1&channel=A:2", mine)).find("A:2"),
            std::string::npos);
  EXPECT_EQ(guarded.status("GET", "/sse?channel=*", bearer(token(R"({"subscribe":["*"]})"))), 400);
  EXPECT_EQ(guarded.status("GET", "/sse/any/1", bearer(token(R"({"subscribe":["*"]})"))), 200);
  for (const char* nothing :
       {"{}", R"({"subscribe":[]})", R"({"subscribe":[""]})", R"({"subscribe":["A*"]})",
        R"({"subscribe":["**",":*"]})", R"({"publish":true,"admin":true})"})
    EXPECT_EQ(guarded.status("GET", "/sse/A/1", bearer(token(nothing))), 403) << nothing;
}

// The name of a channel may be anything that a handler broadcasts to, also what looks like a
// pattern.
TEST(Access, AChannelThatIsNamedLikeAPatternIsOneChannel) {
  Guarded guarded;
  Client all(guarded.site.port(),
             get("/sse?channel=A:*", bearer(token(R"({"subscribe":["A:*"]})"))));
  Client other(guarded.site.port(),
               get("/sse?channel=A:1", bearer(token(R"({"subscribe":["A:1"]})"))));
  ASSERT_TRUE(all.read_until("connected"));
  ASSERT_TRUE(other.read_until("connected"));
  guarded.site.publish({{"A:*", "", "odd"}, {"*", "", "odder"}, {"A:1", "", "plain"}});
  ASSERT_TRUE(all.read_until("data: plain"));
  ASSERT_TRUE(other.read_until("data: plain"));
  EXPECT_EQ(frames_of(all.received()),
            (std::vector<Frame>{{"", "odd", "e-1"}, {"", "plain", "e-3"}}));
  EXPECT_EQ(frames_of(other.received()), (std::vector<Frame>{{"", "plain", "e-3"}}));
}

TEST(Access, PublicChannelsNeedNoTokenAndABadOneDoesNotMatter) {
  ServerOptions options = Guarded::with_keys();
  options.access.public_channels = {"Public:*", "News"};
  Guarded guarded(options);
  for (const char* target :
       {"/sse/Public/1", "/sse?channel=Public:*", "/sse?channel=News&channel=Public:1"}) {
    EXPECT_EQ(guarded.status("GET", target), 200) << target;
    EXPECT_EQ(guarded.status("GET", target, bearer("bad")), 200) << target;
  }
  const std::string mixed = "/sse?channel=Public:1&channel=A:1";
  EXPECT_EQ(guarded.status("GET", mixed), 401);
  EXPECT_EQ(guarded.status("GET", mixed, bearer(token(R"({"subscribe":["A:1"]})"))), 200);
  EXPECT_EQ(guarded.status("GET", mixed, bearer(token("{}"))), 403);
  EXPECT_EQ(guarded.status("GET", "/sse/News/1"), 401);
  EXPECT_EQ(guarded.status("GET", "/status"), 401);
}

TEST(Access, RoutesNeedTheirRight) {
  Guarded guarded;
  const std::string publish = bearer(token(R"({"publish":true})"));
  const std::string admin = bearer(token(R"({"admin":true})"));
  const std::string reader = bearer(token(R"({"subscribe":["*"],"publish":false})"));
  EXPECT_EQ(guarded.status("POST", "/events", publish), 202);
  EXPECT_EQ(guarded.status("POST", "/events", admin), 403);
  EXPECT_EQ(guarded.status("POST", "/events", reader), 403);
  EXPECT_EQ(guarded.status("GET", "/status", admin), 200);
  EXPECT_EQ(guarded.status("HEAD", "/status", admin), 200);
  EXPECT_EQ(guarded.status("GET", "/status", publish), 403);
  EXPECT_EQ(guarded.status("HEAD", "/status", reader), 403);
  EXPECT_NE(error_of(guarded.ask("POST", "/events", admin)).find("publish"), std::string::npos);
}

TEST(Access, AHandlerOfARouteNeverSeesTheToken) {
  Guarded guarded;
  const std::string admin = token(R"({"admin":true})");
  EXPECT_EQ(body_of(guarded.ask("GET", "/query?a=1&access_token=" + admin + "&b=2")),
            "query a=1&b=2");
}

TEST(Access, NoRefusalHoldsTheToken) {
  Guarded guarded;
  const std::string secret = token(R"({"subscribe":["SECRET:1"],"exp":1})");
  const std::string part = secret.substr(secret.size() - 20);
  for (const char* target :
       {"/sse/A/1", "/sse/A", "/nothing", "/status", "/open/%zz", "/sse?channel=%zz"})
    for (const char* method : {"GET", "POST", "OPTIONS"}) {
      const std::string query = std::string(target) +
                                (std::string(target).find('?') == std::string::npos ? "?" : "&") +
                                "access_token=" + secret;
      EXPECT_EQ(guarded.ask(method, query).find(part), std::string::npos) << target;
      EXPECT_EQ(guarded.ask(method, target, bearer(secret)).find(part), std::string::npos);
    }
}

TEST(Access, KeysAreReplacedWhileItRuns) {
  auto keys = std::make_shared<KeyRing>(std::vector{verification_key(kSecret)});
  ServerOptions options;
  options.access.keys = keys;
  Guarded guarded(options);
  const std::string fresh_secret(32, 'f');
  const std::string before = bearer(token(R"({"subscribe":["*"]})"));
  const std::string after = bearer(raw_token(kHs256, R"({"subscribe":["*"]})", fresh_secret));
  Client open(guarded.site.port(), get("/sse/A/1", before));
  ASSERT_TRUE(open.read_until("connected"));
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", after), 401);
  keys->replace({verification_key(kSecret), verification_key(fresh_secret)});
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", before), 200);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", after), 200);
  keys->replace({verification_key(fresh_secret)});
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", before), 401);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", after), 200);
  // What is open stays open until its own end.
  guarded.site.publish({{"A:1", "", "still"}});
  EXPECT_TRUE(open.read_until("data: still"));
  keys->replace({});
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", after), 401);
}

TEST(Access, AStreamEndsWithItsTokenAndSendsNothingAfter) {
  Guarded guarded;
  const std::int64_t end = wall_seconds() + 2;
  Client client(
      guarded.site.port(),
      get("/sse/A/1", bearer(token(R"({"subscribe":["*"],"exp":)" + std::to_string(end) + "}"))));
  ASSERT_TRUE(client.read_until("connected"));
  // Each frame says when it was published; the last may be written a little later, never after.
  std::atomic<bool> done{false};
  std::thread publisher([&] {
    while (!done) {
      const auto now = std::chrono::system_clock::now().time_since_epoch();
      guarded.site.publish(
          {{"A:1", "", std::to_string(std::chrono::duration_cast<milliseconds>(now).count())}});
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(client.read_to_end());
  done = true;
  publisher.join();
  const auto frames = frames_of(client.received());
  ASSERT_FALSE(frames.empty());
  EXPECT_LT(std::stoll(frames.back().data), end * 1000);
  // All that came before is there, without a hole.
  for (std::size_t i = 0; i < frames.size(); ++i) ASSERT_EQ(position_of(frames[i].id), i + 1);
  EXPECT_EQ(guarded.site.server.counters().ends[static_cast<std::size_t>(StreamEnd::expired)], 1u);
}

TEST(Access, AnIdleStreamEndsWithItsTokenLongBeforeItsHeartbeat) {
  ServerOptions options = Guarded::with_keys();
  options.heartbeat = milliseconds(600000);
  options.blocked_timeout = milliseconds(600000);
  Guarded guarded(options);
  const std::string soon = std::to_string(wall_seconds() + 2);
  const std::string claims = R"({"subscribe":["*"],"exp":)";
  Client ending(guarded.site.port(), get("/sse/A/1", bearer(token(claims + soon + "}"))));
  Client staying(guarded.site.port(), get("/sse/A/1", bearer(token(claims + "253402300799}"))));
  Client unending(guarded.site.port(), get("/sse/A/1", bearer(token(R"({"subscribe":["*"]})"))));
  EXPECT_TRUE(ending.read_to_end());
  EXPECT_NE(ending.received().find("connected"), std::string::npos);
  for (Client* client : {&staying, &unending}) ASSERT_TRUE(client->read_until("connected"));
  guarded.site.publish({{"A:1", "", "x"}});
  for (Client* client : {&staying, &unending}) EXPECT_TRUE(client->read_until("data: x"));
}

TEST(Access, AStalledStreamEndsWithItsTokenToo) {
  Guarded guarded;
  Client client(guarded.site.port(), 4096);
  client.send(get("/sse/A/1", bearer(token(R"({"subscribe":["*"],"exp":)" +
                                           std::to_string(wall_seconds() + 2) + "}"))));
  ASSERT_TRUE(client.read_until("connected"));
  guarded.site.publish({{"A:1", "", std::string(20000000, 'x')}});
  EXPECT_TRUE(eventually([&] { return guarded.site.server.streams() == 0; }));
}

// --- Host ---

ServerOptions for_this_machine() {
  ServerOptions options;
  options.access.check_host = true;
  options.access.allowed_hosts = {"streams.example.com"};
  return options;
}

TEST(Access, AnotherHostIsRefusedEverywhere) {
  Guarded guarded(for_this_machine());
  const auto ask = [&](const std::string& method, const std::string& target,
                       const std::string& host) {
    Client client(guarded.site.port(),
                  method + " " + target + " HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n");
    client.read_until([](const std::string& all) { return all.find("connected") != all.npos; });
    return client.received();
  };
  for (const char* target : {"/sse/A/1", "/open", "/status", "/nothing"})
    for (const char* host : {"Host: evil.example\r\n", "Host: evil.example:8080\r\n",
                             "Host: localhost.evil.example\r\n", "Host: a b\r\n"}) {
      const std::string response = ask("GET", target, host);
      EXPECT_EQ(status_of(response), 403) << target << host;
      EXPECT_NE(error_of(response).find("--allowed-host"), std::string::npos);
    }
  EXPECT_EQ(status_of(ask("POST", "/events", "Host: evil.example\r\n")), 403);
  EXPECT_EQ(status_of(ask("HEAD", "/sse/A/1", "Host: evil.example\r\n")), 403);
  EXPECT_EQ(status_of(ask("GET", "http://evil.example/open", "Host: localhost\r\n")), 403);
  EXPECT_EQ(status_of(ask("GET", "/open", "Host: localhost\r\nHost: evil.example\r\n")), 400);
  for (const char* host :
       {"Host: localhost:8080\r\n", "Host: 127.0.0.1\r\n", "Host: [::1]:1\r\n",
        "Host: streams.example.com\r\n", "Host: Streams.Example.Com:443\r\n", ""}) {
    EXPECT_EQ(status_of(ask("GET", "/open", host)), 200) << host;
    EXPECT_EQ(status_of(ask("GET", "/sse/A/1", host)), 200) << host;
  }
}

// --- Origin and CORS ---

TEST(Access, APageOfAnotherOriginCanNeitherEnqueueNorRead) {
  Guarded guarded(for_this_machine());
  const auto post = [&](const std::string& origin) {
    return guarded.ask("POST", "/events", "Content-Type: application/json\r\n" + origin, "{}");
  };
  EXPECT_EQ(status_of(post("")), 202);
  EXPECT_EQ(status_of(post("Origin: http://127.0.0.1\r\n")), 202);
  for (const char* origin : {"http://evil.example", "http://127.0.0.1:8081", "http://localhost",
                             "null", "https://streams.example.com"}) {
    const std::string response = post("Origin: " + std::string(origin) + "\r\n");
    EXPECT_EQ(status_of(response), 403) << origin;
    EXPECT_NE(error_of(response).find("--cors"), std::string::npos);
  }
  const std::string stream = guarded.ask("GET", "/sse/A/1", "Origin: http://evil.example\r\n");
  EXPECT_EQ(status_of(stream), 200);
  EXPECT_EQ(stream.find("Access-Control"), std::string::npos);  // so that the browser keeps it
  EXPECT_EQ(
      guarded.status("OPTIONS", "/events",
                     "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"),
      405);
}

ServerOptions with_cors(std::vector<std::string> origins, bool keys = false) {
  ServerOptions options = keys ? Guarded::with_keys() : ServerOptions{};
  options.access.cors = std::move(origins);
  return options;
}

TEST(Access, AListedOriginMayReadAndEnqueue) {
  Guarded guarded(with_cors({"https://app.example"}));
  const std::string origin = "Origin: https://app.example\r\n";
  const std::string allowed = "Access-Control-Allow-Origin: https://app.example";
  for (const char* target : {"/sse/A/1", "/open", "/nothing", "/sse/A"}) {
    const std::string response = guarded.ask("GET", target, origin);
    EXPECT_TRUE(has_line(response, allowed)) << response;
    EXPECT_TRUE(has_line(response, "Access-Control-Allow-Credentials: true"));
    EXPECT_TRUE(has_line(response, "Vary: Origin"));
    EXPECT_TRUE(has_line(guarded.ask("HEAD", target, origin), allowed));
    const std::string foreign = guarded.ask("GET", target, "Origin: https://evil.example\r\n");
    EXPECT_EQ(foreign.find("Access-Control"), std::string::npos);
    EXPECT_TRUE(has_line(foreign, "Vary: Origin"));
  }
  EXPECT_EQ(guarded.status("POST", "/events", origin), 202);
  EXPECT_EQ(guarded.status("POST", "/events", "Origin: https://evil.example\r\n"), 403);
}

TEST(Access, AStreamsHeadWithCorsByteForByte) {
  Guarded guarded(with_cors({"https://app.example"}));
  EXPECT_EQ(
      guarded.ask("HEAD", "/sse/A/1", "Origin: https://app.example\r\n"),
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
      "Cache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\nConnection: close\r\n"
      "Access-Control-Allow-Origin: https://app.example\r\n"
      "Access-Control-Allow-Credentials: true\r\n"
      "Access-Control-Expose-Headers: X-Total-Count, Retry-After\r\nVary: Origin\r\n\r\n");
}

TEST(Access, WhoIsToComeBackIsToldSoAcrossOrigins) {
  ServerOptions options = with_cors({"https://app.example"});
  options.max_connections = 1;
  Guarded guarded(options);
  Client first = guarded.site.open("/sse/A/1");
  ASSERT_TRUE(first.read_until("connected"));
  const std::string response = guarded.ask("GET", "/sse/A/1", "Origin: https://app.example\r\n");
  EXPECT_TRUE(has_line(response, "Access-Control-Allow-Origin: https://app.example"));
  EXPECT_TRUE(body_of(response).starts_with("retry: "));
}

TEST(Access, APreflightIsAnswered) {
  Guarded guarded(with_cors({"https://app.example"}, true));
  const std::string asks = "Access-Control-Request-Method: POST\r\n";
  const std::string origin = "Origin: https://app.example\r\n";
  EXPECT_EQ(guarded.ask("OPTIONS", "/events", origin + asks),
            "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: POST\r\n"
            "Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID, "
            "Cache-Control\r\nAccess-Control-Max-Age: 600\r\n"
            "Access-Control-Allow-Origin: https://app.example\r\n"
            "Access-Control-Allow-Credentials: true\r\n"
            "Access-Control-Expose-Headers: X-Total-Count, Retry-After\r\nVary: Origin\r\n"
            "Connection: close\r\n\r\n");
  EXPECT_TRUE(has_line(guarded.ask("OPTIONS", "/sse/A/1", origin + asks),
                       "Access-Control-Allow-Methods: GET, HEAD"));
  const std::string foreign =
      guarded.ask("OPTIONS", "/events", "Origin: https://evil.example\r\n" + asks);
  EXPECT_EQ(status_of(foreign), 403);
  EXPECT_EQ(foreign.find("Access-Control"), std::string::npos);
  EXPECT_EQ(guarded.status("OPTIONS", "/events", origin), 405);
  EXPECT_EQ(guarded.status("OPTIONS", "/events", asks), 405);
  EXPECT_EQ(guarded.status("OPTIONS", "/nothing", origin + asks), 404);
  EXPECT_EQ(guarded.status("OPTIONS", "/sse/A/1"), 405);
}

TEST(Access, EveryOriginMeansWithoutCookies) {
  Guarded guarded(with_cors({"*"}, true));
  const std::string origin = "Origin: http://any.example\r\n";
  const std::string rights = token(R"({"subscribe":["*"],"publish":true})");
  const std::string cookie = "Cookie: spillway_token=" + rights + "\r\n";
  const std::string stream = guarded.ask("GET", "/sse/A/1", origin + bearer(rights));
  EXPECT_EQ(status_of(stream), 200);
  EXPECT_TRUE(has_line(stream, "Access-Control-Allow-Origin: *"));
  EXPECT_EQ(stream.find("Allow-Credentials"), std::string::npos);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", origin + cookie), 401);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", "Origin: http://127.0.0.1\r\n" + cookie), 200);
  EXPECT_EQ(guarded.status("GET", "/sse/A/1", cookie), 200);
  EXPECT_EQ(guarded.status("POST", "/events", origin + cookie), 401);
  EXPECT_EQ(guarded.status("POST", "/events", origin + bearer(rights)), 202);
  EXPECT_EQ(guarded.status("POST", "/events", "Origin: null\r\n" + bearer(rights)), 202);
}

TEST(Access, EveryOriginWithoutTokensMayReadButNotEnqueue) {
  Guarded guarded(with_cors({"*"}));
  const std::string origin = "Origin: http://any.example\r\n";
  EXPECT_TRUE(has_line(guarded.ask("GET", "/sse/A/1", origin), "Access-Control-Allow-Origin: *"));
  EXPECT_EQ(guarded.status("POST", "/events", origin), 403);
  EXPECT_EQ(guarded.status("POST", "/events", "Origin: http://127.0.0.1\r\n"), 202);
}

}  // namespace
}  // namespace spillway::sse::test
