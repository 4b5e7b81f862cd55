// Who may, with the real binary: keys in files, tokens that it signs, rotation, and that no token
// is ever written anywhere.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using Options = std::vector<std::string>;

class Auth : public testing::Test {
 protected:
  Auth() {
    std::filesystem::create_directories(folder_);
    write("secret", std::string(40, 's') + "\n");
    insist(run({"openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-out", file("ec")})
               .exit_code == 0);
    insist(
        run({"openssl", "pkey", "-in", file("ec"), "-pubout", "-out", file("ec.pub")}).exit_code ==
        0);
  }

  static void insist(bool well) { ASSERT_TRUE(well); }

  [[nodiscard]] std::string file(const std::string& name) const {
    return (folder_ / name).string();
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
  }

  // As `spillway token` prints it.
  [[nodiscard]] static std::string sign(const std::string& key, const Options& options) {
    Options command{spillway_binary(), "token", "--auth-key", key};
    command.insert(command.end(), options.begin(), options.end());
    const Finished finished = run(command);
    EXPECT_EQ(finished.exit_code, 0) << finished.errors;
    EXPECT_EQ(finished.errors, "");
    EXPECT_EQ(std::count(finished.output.begin(), finished.output.end(), '\n'), 1);
    return finished.output.substr(0, finished.output.find('\n'));
  }

  [[nodiscard]] static Finished refused(const Options& options) {
    Options command{spillway_binary()};
    command.insert(command.end(), options.begin(), options.end());
    return run(command);
  }

  [[nodiscard]] static int status(const Worker& worker, const std::string& method,
                                  const std::string& target, const std::string& token = "",
                                  const std::string& body = "") {
    return http(worker.port(), method,
                token.empty() ? target
                              : target + (target.find('?') == std::string::npos ? "?" : "&") +
                                    "access_token=" + token,
                body)
        .status;
  }

  // HEAD is a stream's answer without the stream.
  [[nodiscard]] static int stream_status(const Worker& worker, const std::string& target,
                                         const std::string& token = "") {
    return status(worker, "HEAD", target, token);
  }

  const std::filesystem::path folder_ =
      scratch_folder() /
      (std::string("auth-") + testing::UnitTest::GetInstance()->current_test_info()->name());
  Database database_;
};

TEST_F(Auth, TokensOfTheBinaryOpenWhatTheyName) {
  Worker worker(database_.url(),
                {"--auth-key", file("secret"), "--auth-key", file("ec.pub"), "--public", "News:*"});
  worker.wait_until_ready();
  EXPECT_EQ(stream_status(worker, "/sse/A/1"), 401);
  EXPECT_EQ(stream_status(worker, "/sse/News/1"), 200);
  for (const std::string& key : {file("secret"), file("ec")}) {
    const std::string mine = sign(key, {"--subscribe", "A:1", "B:*"});
    EXPECT_EQ(stream_status(worker, "/sse/A/1", mine), 200);
    EXPECT_EQ(stream_status(worker, "/sse?channel=A:1&channel=B:x:*", mine), 200);
    EXPECT_EQ(stream_status(worker, "/sse/A/2", mine), 403);
    EXPECT_EQ(status(worker, "POST", "/events", mine, R"({"type":"x"})"), 403);
    EXPECT_EQ(status(worker, "GET", "/api/status", mine), 403);
    EXPECT_EQ(status(worker, "POST", "/events", sign(key, {"--publish"}), R"({"type":"x"})"), 202);
    EXPECT_EQ(status(worker, "GET", "/api/status", sign(key, {"--admin", "--expires", "never"})),
              200);
    EXPECT_EQ(
        stream_status(worker, "/sse/A/1", sign(key, {"--subscribe", "*", "--not-before", "30m"})),
        401);
  }
  for (const char* open : {"/", "/healthz", "/readyz"}) EXPECT_EQ(status(worker, "GET", open), 200);
  EXPECT_EQ(status(worker, "GET", "/api/dead"), 401);
  EXPECT_EQ(status(worker, "GET", "/nothing"), 404);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(Auth, AStreamEndsAtItsTokensEnd) {
  Worker worker(database_.url(), {"--auth-key", file("secret")});
  worker.wait_until_ready();
  const std::string token = sign(file("secret"), {"--subscribe", "A:*", "--expires", "5s"});
  SseClient client(worker.port(), "/sse/A/1?access_token=" + token);
  ASSERT_TRUE(client.next());
  database_.query("SELECT spillway.broadcast('A:1', 'x', '1')");
  const auto frame = client.next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->data, "1");
  EXPECT_FALSE(client.next(std::chrono::seconds(20)));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(stream_status(worker, "/sse/A/1", token), 401);
}

TEST_F(Auth, KeysAreRotatedBySighupWithoutARestart) {
  write("next", std::string(40, 'n'));
  Worker streams(database_.url(),
                 {"--roles", "sse", "--auth-key", file("secret"), "--auth-key", file("next")});
  streams.wait_until_ready();
  write("third", std::string(40, 't'));
  const std::string before = sign(file("secret"), {"--subscribe", "*"});
  const std::string after = sign(file("third"), {"--subscribe", "*"});
  SseClient open(streams.port(), "/sse/A/1?access_token=" + before);
  ASSERT_TRUE(open.next());
  EXPECT_EQ(stream_status(streams, "/sse/A/1", after), 401);

  // One that cannot be read leaves all of them as they were.
  write("secret", std::string(40, 't'));
  write("next", "short");
  streams.process().signal(SIGHUP);
  ASSERT_TRUE(eventually([&] {
    return streams.process().errors().find("the keys stay as they were") != std::string::npos;
  })) << streams.process().errors();
  EXPECT_NE(streams.process().errors().find("5 bytes"), std::string::npos);
  EXPECT_EQ(stream_status(streams, "/sse/A/1", before), 200);
  EXPECT_EQ(stream_status(streams, "/sse/A/1", after), 401);

  write("next", std::string(40, 'n'));
  streams.process().signal(SIGHUP);
  ASSERT_TRUE(eventually([&] { return stream_status(streams, "/sse/A/1", after) == 200; }));
  EXPECT_EQ(stream_status(streams, "/sse/A/1", before), 401);
  // What is open stays open until its token ends.
  database_.query(
      "WITH moved AS (UPDATE spillway.stream_head SET last = last + 1 RETURNING last) "
      "INSERT INTO spillway.broadcasts (position, channel, event_type, data) "
      "SELECT last, 'A:1', 'x', '1' FROM moved");
  EXPECT_TRUE(open.next());
  EXPECT_EQ(streams.stop(), 0);
}

// Whatever is logged, and however: requests that are served, refused, broken and sent away.
TEST_F(Auth, NoLogHoldsAToken) {
  for (const Options& how :
       {Options{}, Options{"--log-level", "error"}, Options{"--log-level", "debug", "--access-log"},
        Options{"--log-level", "trace", "--access-log", "--log-format", "json"}}) {
    Options options{"--auth-key", file("secret"), "--max-connections", "3"};
    options.insert(options.end(), how.begin(), how.end());
    Worker worker(database_.url(), options);
    worker.wait_until_ready();
    const std::string good = sign(file("secret"), {"--subscribe", "A:1", "--publish", "--admin"});
    const std::string forged = good.substr(0, good.size() - 12) + "AAAAAAAAAAAA";
    for (const std::string& token : {good, forged, good + "%zz", good.substr(0, 60)}) {
      for (const std::string target :
           {"/sse/A/1", "/sse/B/1", "/sse/A", "/sse?channel=*", "/sse?channel=%zz", "/nothing",
            "/%zz", "/api/status", "/api/dead?since=yesterdayish", "/api/dead?limit=x",
            "/events?wait=x", "/metrics"}) {
        for (const char* method : {"HEAD", "POST", "DELETE"}) {
          const char sign_of_query = target.find('?') == std::string::npos ? '?' : '&';
          const auto answer =
              http(worker.port(), method, target + sign_of_query + "access_token=" + token, "{");
          EXPECT_EQ((answer.head + answer.body).find(token.substr(0, 50)), std::string::npos)
              << target;
        }
      }
    }
    for (int i = 0; i < 5; ++i) {
      SseClient some(worker.port(), "/sse/A/1?last_event_id=junk&access_token=" + good);
      EXPECT_TRUE(some.next());
    }
    const auto metrics = http(worker.port(), "GET", "/metrics?access_token=" + good);
    EXPECT_EQ(metrics.status, 200);
    EXPECT_EQ(worker.stop(), 0);
    const std::string written =
        worker.process().errors() + worker.process().output() + metrics.head + metrics.body;
    // Neither a token, nor its claims, nor its signature, nor the key.
    for (const std::string& secret : {good.substr(0, 50), good.substr(good.find('.') + 1, 40),
                                      good.substr(good.rfind('.') + 1, 20), std::string(40, 's')})
      EXPECT_EQ(written.find(secret), std::string::npos) << secret;
  }
}

TEST_F(Auth, AnotherHostIsRefusedOnLoopbackWithoutKeys) {
  Worker worker(database_.url(), {"--allowed-host", "streams.example.com"});
  worker.wait_until_ready();
  // The absolute form names the host.
  const auto asked_for = [&](const std::string& host, const std::string& path) {
    return http(worker.port(), "HEAD", "http://" + host + path).status;
  };
  for (const char* path : {"/", "/sse/A/1", "/api/status", "/healthz"}) {
    EXPECT_EQ(asked_for("evil.example:8080", path), 403) << path;
    EXPECT_EQ(asked_for("localhost:8080", path), 200) << path;
    EXPECT_EQ(asked_for("streams.example.com", path), 200) << path;
  }
}

TEST_F(Auth, WhatIsWrongAtTheStartIsSaidWithExitCode2) {
  write("short", "short\n");
  write("empty", "");
  insist(run({"openssl", "genrsa", "-out", file("weak"), "1024"}).exit_code == 0);
  insist(run({"openssl", "pkey", "-in", file("weak"), "-pubout", "-out", file("weak.pub")})
             .exit_code == 0);
  insist(
      run({"openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", file("p384")})
          .exit_code == 0);
  const std::string database = "--database-url=" + database_.url();
  const std::map<std::string, std::vector<Options>> cases{
      {"32 bytes or more", {{"--auth-key", file("short")}, {"--auth-key", file("empty")}}},
      {"no such file", {{"--auth-key", file("none")}}},
      {"not a regular file", {{"--auth-key", folder_.string()}}},
      {"-pubout", {{"--auth-key", file("ec")}}},
      {"2048 or more", {{"--auth-key", file("weak.pub")}}},
      {"CommentStream:*", {{"--public", "Comment*"}, {"--public", ":*"}}},
      {"https://app.example.com",
       {{"--cors", "app.example.com"}, {"--cors", "https://a/"}, {"--cors", "null"}}},
      {"streams.example.com", {{"--allowed-host", "http://a"}, {"--allowed-host", "a:80"}}},
      {"--auth-key FILE", {{"--listen", "0.0.0.0:0"}}},
  };
  for (const auto& [what, all] : cases)
    for (const Options& options : all) {
      Options command{"run", database};
      command.insert(command.end(), options.begin(), options.end());
      const Finished finished = refused(command);
      EXPECT_EQ(finished.exit_code, 2) << finished.errors;
      EXPECT_NE(finished.errors.find(what), std::string::npos) << finished.errors;
      EXPECT_NE(finished.errors.find(options.front()), std::string::npos) << finished.errors;
    }
  const std::map<std::string, std::vector<Options>> tokens{
      {"cannot sign", {{"--auth-key", file("ec.pub"), "--subscribe", "A"}}},
      {"P-256", {{"--auth-key", file("p384"), "--subscribe", "A"}}},
      {"32 bytes or more", {{"--auth-key", file("short"), "--subscribe", "A"}}},
      {"no such file", {{"--auth-key", file("none"), "--subscribe", "A"}}},
      {"allow nothing", {{"--auth-key", file("secret")}}},
      {"CommentStream:*", {{"--auth-key", file("secret"), "--subscribe", "A*"}}},
      {"1s at least",
       {{"--auth-key", file("secret"), "--admin", "--expires", "0"},
        {"--auth-key", file("secret"), "--admin", "--expires", "10ms"}}},
      {"a duration", {{"--auth-key", file("secret"), "--admin", "--expires", "tomorrow"}}},
      {"more than --not-before",
       {{"--auth-key", file("secret"), "--admin", "--expires", "1h", "--not-before", "1h"}}},
      {"--auth-key", {{"--admin"}}},
  };
  for (const auto& [what, all] : tokens)
    for (const Options& options : all) {
      Options command{"token"};
      command.insert(command.end(), options.begin(), options.end());
      const Finished finished = refused(command);
      EXPECT_EQ(finished.exit_code, 2) << finished.errors;
      EXPECT_EQ(finished.output, "");
      EXPECT_NE(finished.errors.find(what), std::string::npos) << finished.errors;
    }
}

TEST_F(Auth, WithAKeyItListensOnAnyAddress) {
  Worker worker(database_.url(), {"--listen", "0.0.0.0:0", "--auth-key", file("secret")});
  worker.wait_until_ready();
  EXPECT_EQ(status(worker, "GET", "/api/status"), 401);
}

}  // namespace
}  // namespace spillway::test
