// docs/nginx.conf itself, with ports and paths of the test put in, between curl and a worker.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/system/support.hpp"
#include "tests/system/tls_support.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string nginx_binary() {
  for (const char* path : {"/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"})
    if (fs::exists(path)) return path;
  return {};
}

std::size_t count(const std::string& text, const std::string& word) {
  std::size_t found = 0;
  for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

class Nginx : public testing::Test {
 protected:
  void SetUp() override {
    if (nginx_binary().empty()) GTEST_SKIP() << "nginx is not installed";
    static int numbers = 0;
    folder_ = scratch_folder() / ("nginx" + std::to_string(++numbers));
    fs::create_directories(folder_);
    certificate_ = make_certificate(folder_, "events.example.com");
    port_ = free_port();
  }
  void TearDown() override {
    if (nginx_) {
      nginx_->signal(SIGTERM);
      nginx_->wait();
    }
  }

  // A line of the file that is changed, which therefore has to be there.
  static void put(std::string& text, const std::string& from, const std::string& to) {
    ASSERT_NE(text.find(from), std::string::npos) << "docs/nginx.conf has no \"" << from << '"';
    text.replace(text.find(from), from.size(), to);
  }

  void start(const std::string& upstream) {
    std::ifstream file(NGINX_CONF);
    std::stringstream read;
    read << file.rdbuf();
    std::string conf = read.str();
    put(conf, "server 127.0.0.1:8080;", "server " + upstream + ";");
    put(conf, "listen 443 ", "listen 127.0.0.1:" + std::to_string(port_) + " ");
    put(conf, "/etc/ssl/events.example.com.pem", certificate_.certificate);
    put(conf, "/etc/ssl/events.example.com.key", certificate_.key);
    // The proportion is kept: four times the heartbeat.
    put(conf, "proxy_read_timeout 60s;", "proxy_read_timeout 4s;");
    put(conf, "send_timeout 60s;", "send_timeout 4s;");
    std::ofstream(folder_ / "spillway.conf") << conf;
    std::ofstream(folder_ / "nginx.conf")
        << "daemon off;\npid " << (folder_ / "pid").string() << ";\nerror_log stderr notice;\n"
        << "worker_processes 1;\nworker_rlimit_nofile 8192;\n"
        << "events { worker_connections 4096; }\nhttp {\n  access_log off;\n"
        << "  client_body_temp_path " << (folder_ / "body").string() << ";\n  proxy_temp_path "
        << (folder_ / "proxy").string() << ";\n  include spillway.conf;\n}\n";
    nginx_.emplace(std::vector<std::string>{nginx_binary(), "-p", folder_.string(), "-e", "stderr",
                                            "-c", "nginx.conf"});
    ASSERT_TRUE(eventually([&] { return fs::exists(folder_ / "pid") && is_healthy(); }))
        << nginx_->errors();
  }

  std::vector<std::string> curl_command(const std::string& target,
                                        const std::vector<std::string>& more = {}) const {
    const std::string authority = "events.example.com:" + std::to_string(port_);
    std::vector<std::string> command{"curl",      "-sS",
                                     "-N",        "--http2",
                                     "--cacert",  certificate_.certificate,
                                     "--resolve", authority + ":127.0.0.1"};
    command.insert(command.end(), more.begin(), more.end());
    command.push_back("https://" + authority + target);
    return command;
  }
  std::string curl(const std::string& target, const std::vector<std::string>& more = {}) const {
    return run(curl_command(target, more)).output;
  }
  [[nodiscard]] bool is_healthy() const {
    return run(curl_command("/healthz", {"--fail"})).exit_code == 0;
  }
  std::unique_ptr<Process> stream(const std::string& target,
                                  const std::vector<std::string>& more = {}) const {
    return std::make_unique<Process>(curl_command(target, more));
  }
  static std::vector<std::string> worker_options(std::vector<std::string> more = {}) {
    std::vector<std::string> options{"--heartbeat",     "1s",
                                     "--trusted-proxy", "127.0.0.1",
                                     "--allowed-host",  "events.example.com"};
    options.insert(options.end(), more.begin(), more.end());
    return options;
  }
  void start_before(Worker& worker) { start("127.0.0.1:" + std::to_string(worker.port())); }

  static void broadcast(Database& database, const std::string& channel, int number) {
    database.query("SELECT spillway.broadcast('" + channel +
                   "', 'News', '{\"n\":" + std::to_string(number) + "}')");
  }
  static bool says(Process& client, const std::string& text) {
    return eventually([&] { return client.output().find(text) != std::string::npos; });
  }

  fs::path folder_;
  CertificateFiles certificate_;
  int port_ = 0;
  std::optional<Process> nginx_;
};

TEST_F(Nginx, frames_pass_at_once_over_http2_and_a_client_resumes) {
  Database database;
  Worker worker(database.url(), worker_options());
  worker.wait_until_ready();
  start_before(worker);
  const auto client = stream("/sse?channel=A:1", {"-i"});
  ASSERT_TRUE(says(*client, "connected")) << client->errors();
  EXPECT_EQ(client->output().find("HTTP/2 200"), 0u) << client->output();
  // One by one: nothing waits for the next one to push it through.
  for (int n = 1; n <= 5; ++n) {
    broadcast(database, "A:1", n);
    ASSERT_TRUE(says(*client, "{\"n\":" + std::to_string(n) + "}"));
  }
  const std::string seen = client->output();
  const auto frame = seen.find("{\"n\":2}");
  const auto id_at = seen.find("id: ", frame) + 4;
  const std::string id = seen.substr(id_at, seen.find('\n', id_at) - id_at);
  const auto resumed = stream("/sse?channel=A:1", {"-H", "Last-Event-ID: " + id});
  ASSERT_TRUE(says(*resumed, "{\"n\":5}"));
  EXPECT_EQ(resumed->output().find("{\"n\":2}"), std::string::npos);
  EXPECT_NE(resumed->output().find("{\"n\":3}"), std::string::npos);
  EXPECT_EQ(resumed->output().find("reset"), std::string::npos);
}

TEST_F(Nginx, events_and_tokens_pass) {
  Database database;
  const std::string key = (folder_ / "auth.key").string();
  std::ofstream(key) << "a secret that is long enough for HS256, surely";
  Worker worker(database.url(), worker_options({"--auth-key", key, "--unhandled", "done"}));
  worker.wait_until_ready();
  start_before(worker);
  const auto token = [&](const std::vector<std::string>& rights) {
    std::vector<std::string> command{spillway_binary(), "token", "--auth-key", key};
    command.insert(command.end(), rights.begin(), rights.end());
    const auto made = run(command);
    EXPECT_EQ(made.exit_code, 0) << made.errors;
    return made.output.substr(0, made.output.find('\n'));
  };
  EXPECT_NE(curl("/sse?channel=A:1", {"-i", "--max-time", "5"}).find("HTTP/2 401"),
            std::string::npos);
  const std::string reader = token({"--subscribe", "A:*"});
  const auto by_header = stream("/sse?channel=A:1", {"-H", "Authorization: Bearer " + reader});
  const auto by_query = stream("/sse?channel=A:1&access_token=" + reader);
  const auto by_cookie = stream("/sse?channel=A:1", {"-H", "Cookie: spillway_token=" + reader});
  for (const auto* client : {&by_header, &by_query, &by_cookie})
    EXPECT_TRUE(says(**client, "connected")) << (*client)->output() << (*client)->errors();
  const std::string writer = token({"--publish"});
  const std::string answer = curl(
      "/events", {"-H", "Authorization: Bearer " + writer, "-H", "Content-Type: application/json",
                  "-d", R"({"type":"News","payload":{"n":7}})"});
  EXPECT_NE(answer.find("\"id\""), std::string::npos) << answer;
  broadcast(database, "A:1", 7);
  for (const auto* client : {&by_header, &by_query, &by_cookie})
    EXPECT_TRUE(says(**client, "{\"n\":7}"));
}

TEST_F(Nginx, a_quiet_stream_outlives_the_timeouts_by_its_heartbeat) {
  Database database;
  Worker worker(database.url(), worker_options());
  worker.wait_until_ready();
  start_before(worker);
  const auto client = stream("/sse?channel=A:1");
  ASSERT_TRUE(says(*client, "connected"));
  // Twice nginx's time.
  ASSERT_TRUE(eventually(
      [&] { return count(client->output(), "\n:\n") + count(client->output(), ":\n:\n") >= 8; },
      30s))
      << client->output();
  EXPECT_TRUE(client->running());
  broadcast(database, "A:1", 1);
  EXPECT_TRUE(says(*client, "{\"n\":1}"));
}

TEST_F(Nginx, a_stop_of_the_worker_ends_streams_in_order) {
  Database database;
  Worker worker(database.url(), worker_options());
  worker.wait_until_ready();
  start_before(worker);
  const auto client = stream("/sse?channel=A:1");
  ASSERT_TRUE(says(*client, "connected"));
  broadcast(database, "A:1", 1);
  ASSERT_TRUE(says(*client, "{\"n\":1}"));
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
  EXPECT_EQ(client->wait(), 0) << client->errors();
}

TEST_F(Nginx, more_than_a_thousand_streams_pass_by_a_unix_socket) {
  Database database;
  const std::string socket = (folder_ / "s.sock").string();
  Worker worker(database.url(),
                worker_options({"--listen", "127.0.0.1:0", "--listen", "unix:" + socket,
                                "--listen-mode", "0666", "--trusted-proxy", "unix"}));
  worker.wait_until_ready();
  start("unix:" + socket);
  constexpr int clients = 4;
  constexpr int each = 275;
  std::vector<std::unique_ptr<Process>> all;
  for (int i = 0; i < clients; ++i) {
    const std::string urls = "/sse?channel=A:[1-" + std::to_string(each) + "]";
    all.push_back(stream(
        urls, {"--parallel", "--parallel-immediate", "--parallel-max", std::to_string(each)}));
  }
  const auto connected = [&] {
    std::size_t sum = 0;
    for (const auto& client : all) sum += count(client->output(), "\"connected\"");
    return sum;
  };
  EXPECT_TRUE(eventually([&] { return connected() == clients * each; }, 60s)) << connected();
  broadcast(database, "A:1", 1);
  for (const auto& client : all) EXPECT_TRUE(says(*client, "{\"n\":1}"));
}

TEST_F(Nginx, the_limit_per_address_counts_nginxs_clients_not_nginx) {
  Database database;
  Worker worker(database.url(), worker_options({"--max-connections-per-address", "2"}));
  worker.wait_until_ready();
  start_before(worker);
  // nginx appends whom it saw, so what a client claims is not believed: all of these are 127.0.0.1,
  // which is a trusted proxy here, and so the address before it counts.
  const auto from = [&](const std::string& address) {
    return stream("/sse?channel=A:1", {"-H", "X-Forwarded-For: " + address});
  };
  const auto one = from("203.0.113.1");
  const auto two = from("203.0.113.1");
  ASSERT_TRUE(says(*one, "connected"));
  ASSERT_TRUE(says(*two, "connected"));
  const auto three = from("203.0.113.1");
  EXPECT_EQ(three->wait(), 0);
  EXPECT_EQ(three->output().find("retry: "), 0u) << three->output();
  EXPECT_EQ(three->output().find("connected"), std::string::npos);
  const auto other = from("203.0.113.2");
  EXPECT_TRUE(says(*other, "connected"));
  EXPECT_TRUE(is_healthy());
}

}  // namespace
}  // namespace spillway::test
