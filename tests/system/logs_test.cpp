// The log of a real process: its form, what each line about an event says, and no secret in it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/eventually.hpp"
#include "tests/support/http_target.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

std::vector<std::string> with_handlers(std::vector<std::string> more) {
  more.insert(more.begin(), {"--handlers", test_handlers(), "--max-attempts", "2", "--retry-delay",
                             "10ms", "--webhook-retry-delay", "10ms"});
  return more;
}

void enqueue(Database& database, const std::string& type, const json& steps, int times = 1) {
  database.query("INSERT INTO spillway.events (type, payload) SELECT " + sql_quoted(type) + ", " +
                 sql_quoted(json{{"do", steps}}.dump()) + " FROM generate_series(1, " +
                 std::to_string(times) + ")");
}

bool dead(Database& database, int count) {
  return eventually(
      [&] { return database.number("SELECT count(*) FROM spillway.dead_letters") == count; });
}

// Every line is one object with a time, a level and a message.
std::vector<json> json_lines(const std::string& text) {
  std::vector<json> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const json object = json::parse(line, nullptr, false);
    EXPECT_TRUE(object.is_object()) << line;
    if (!object.is_object()) continue;
    for (const char* field : {"time", "level", "message"})
      EXPECT_TRUE(object.contains(field) && object.at(field).is_string()) << line;
    lines.push_back(object);
  }
  return lines;
}

std::vector<json> saying(const std::vector<json>& lines, const std::string& words) {
  std::vector<json> found;
  for (const json& line : lines)
    if (line.at("message").get<std::string>().find(words) != std::string::npos)
      found.push_back(line);
  return found;
}

TEST(Logs, each_line_about_an_event_names_its_correlation) {
  Database database;
  HttpTarget target;
  target.answer(500);
  Worker worker(database.url(), with_handlers({"--log-format", "json", "--webhook-allow",
                                               "127.0.0.0/8", "--webhook-attempts", "1"}));
  worker.wait_until_ready();
  enqueue(database, "Bad", {{{"throw", "no\nluck \x1b[31m"}}});
  enqueue(database, "Wrong", {{{"insert", {{"table", "nowhere"}, {"data", {{"x", 1}}}}}}});
  enqueue(database, "Ask",
          {{{"webhook", {{"url", target.url() + "?key=hush"}, {"payload", 1}, {"name", "hook"}}}}});
  ASSERT_TRUE(dead(database, 2)) << worker.process().errors();
  ASSERT_TRUE(
      eventually([&] { return database.value("SELECT status FROM spillway.webhooks") == "dead"; }));
  ASSERT_EQ(worker.stop(), 0);

  const std::string text = worker.process().errors();
  const auto lines = json_lines(text);
  EXPECT_EQ(text.find("hush"), std::string::npos);
  const auto correlation = [&](const std::string& type) {
    return database.value("SELECT correlation_id FROM spillway.events WHERE type = '" + type + "'");
  };
  const auto expect_line = [&](const std::string& words, const std::string& type,
                               const std::string& level, int attempt) {
    const auto found = saying(lines, words);
    ASSERT_EQ(found.size(), 1u) << words << "\n" << text;
    EXPECT_EQ(found[0].at("correlation_id"), correlation(type)) << words;
    EXPECT_EQ(std::to_string(found[0].at("event_id").get<int>()),
              database.value("SELECT id FROM spillway.events WHERE type = '" + type + "'"));
    EXPECT_EQ(found[0].at("level"), level) << words;
    EXPECT_EQ(found[0].at("attempt"), attempt) << words;
  };
  expect_line("attempt 1 of 2 failed, next in", "Bad", "info", 1);
  expect_line("dead letter: event 1 (Bad): the handler threw: no\nluck \x1b[31m", "Bad", "warn", 2);
  expect_line("there is no table \"nowhere\"", "Wrong", "warn", 1);
  expect_line("attempt 1 of 1 failed, given up", "Ask", "warn", 1);
  // Whatever names an event's id says whose it is.
  for (const json& line : lines)
    EXPECT_EQ(line.contains("event_id"), line.contains("correlation_id")) << line;
}

TEST(Logs, text_is_one_line_for_each_and_the_level_is_respected) {
  Database database;
  Worker worker(database.url(), with_handlers({"--log-level", "warn"}));
  worker.wait_until_ready();
  enqueue(database, "Bad", {{{"throw", "no\nluck"}}});
  ASSERT_TRUE(dead(database, 1));
  ASSERT_EQ(worker.stop(), 0);
  const std::string text = worker.process().errors();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_NE(text.find(" warn dead letter: event 1 (Bad): the handler threw: no\\nluck event_id=1 "
                      "type=Bad correlation_id="),
            std::string::npos)
      << text;
}

TEST(Logs, a_flood_of_failures_is_summed_up) {
  Database database;
  Worker worker(database.url(),
                {"--handlers", test_handlers(), "--max-attempts", "1", "--log-format", "json"});
  worker.wait_until_ready();
  enqueue(database, "Poison", {{{"throw", "no luck"}}}, 3000);
  ASSERT_TRUE(dead(database, 3000));
  ASSERT_EQ(worker.stop(), 0);
  const auto lines = json_lines(worker.process().errors());
  std::size_t told = 0;
  std::uint64_t left_out = 0;
  for (const json& line : lines) {
    if (line.contains("event_id")) ++told;
    left_out += line.value("left_out", std::uint64_t{0});
  }
  EXPECT_EQ(told + left_out, 3000u);
  const auto sums = saying(lines, "dead letters of type Poison: … and").size();
  EXPECT_GE(sums, 1u);
  EXPECT_LE(told, 10 * (sums + 1));  // on a machine that takes longer than 10 s
}

TEST(Logs, what_ends_a_start_is_a_line_like_the_others) {
  const auto refused =
      run({spillway_binary(), "run", "--log-format", "json", "--listen", "127.0.0.1:0",
           "--database-url", "postgres://ann:s3cret@127.0.0.1:1/x", "--connect-timeout", "10ms"});
  EXPECT_EQ(refused.exit_code, 3);
  const auto lines = json_lines(refused.errors);
  ASSERT_EQ(lines.size(), 2u) << refused.errors;  // no handlers, no database
  EXPECT_EQ(lines.back().at("level"), "error");
  EXPECT_EQ(refused.errors.find("s3cret"), std::string::npos);
  EXPECT_EQ(run({spillway_binary(), "run", "--log-format", "xml"}).exit_code, 2);
}

TEST(Logs, of_access_are_there_when_asked_for_and_hold_no_token) {
  Database database;
  Worker worker(database.url(), {"--log-format", "json", "--access-log"});
  worker.wait_until_ready();
  http(worker.port(), "GET", "/healthz?access_token=hush-hush");
  {
    SseClient stream(worker.port(), "/sse/Room/1?access_token=hush-hush");
    ASSERT_TRUE(stream.next());
  }
  ASSERT_TRUE(eventually([&] {
    return saying(json_lines(worker.process().errors()), "access").size() == 2;
  })) << worker.process().errors();
  ASSERT_EQ(worker.stop(), 0);
  const std::string text = worker.process().errors();
  EXPECT_EQ(text.find("hush"), std::string::npos) << text;
  const auto lines = saying(json_lines(text), "access");
  EXPECT_EQ(lines[0].at("method"), "GET");
  EXPECT_EQ(lines[0].at("target"), "/healthz?access_token=…");
  EXPECT_EQ(lines[0].at("status"), 200);
  EXPECT_EQ(lines[0].at("client"), "127.0.0.1");
  EXPECT_EQ(lines[1].at("target"), "/sse/Room/1?access_token=…");
  EXPECT_EQ(lines[1].at("end"), "closed");
  EXPECT_GT(lines[1].at("bytes"), 0);
}

TEST(Logs, that_nobody_reads_stop_nothing) {
  Database database;
  const std::string folder = scratch_folder().string();
  const std::string fifo = folder + "/unread";
  const std::string port_file = folder + "/unread.port";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int end = open(fifo.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(end, 0);
  fcntl(end, F_SETPIPE_SZ, 4096);
  Process worker({"sh", "-c", "exec \"$0\" \"$@\" 2> " + fifo, spillway_binary(), "run",
                  "--database-url", database.url(), "--listen", "127.0.0.1:0", "--port-file",
                  port_file, "--handlers", test_handlers(), "--max-attempts", "1"});
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(port_file); }));
  int port = 0;
  std::ifstream(port_file) >> port;
  for (int i = 0; i < 50; ++i)
    enqueue(database, "Poison" + std::to_string(i), {{{"throw", std::string(3000, 'x')}}}, 5);
  EXPECT_TRUE(dead(database, 250));
  EXPECT_EQ(http(port, "GET", "/healthz").status, 200);
  worker.signal(SIGTERM);
  EXPECT_EQ(worker.wait(), 0);
  close(end);
}

}  // namespace
}  // namespace spillway::test
