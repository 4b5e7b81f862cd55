// GET /metrics of a real process: exact numbers after known work, the text's form, and that what
// the documentation, the dashboard and the alert rules name is there.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support/exposition.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

void enqueue(Database& database, const std::string& type, const json& steps, int times = 1) {
  database.query("INSERT INTO spillway.events (type, payload) SELECT " + sql_quoted(type) + ", " +
                 sql_quoted(json{{"do", steps}}.dump()) + " FROM generate_series(1, " +
                 std::to_string(times) + ")");
}

json tell(bool ephemeral) {
  return {
      {{"tell",
        {{"channel", "Room:1"}, {"event_type", "Said"}, {"data", 1}, {"ephemeral", ephemeral}}}}};
}

Exposition scrape(Worker& worker) {
  const HttpAnswer answer = http(worker.port(), "GET", "/metrics");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_NE(answer.head.find("Content-Type: text/plain; version=0.0.4; charset=utf-8"),
            std::string::npos);
  return Exposition(answer.body);
}

// Scrapes until the series has the value.
testing::AssertionResult comes_to(Worker& worker, const std::string& series, double wanted) {
  std::optional<double> seen;
  if (eventually([&] { return (seen = scrape(worker).value(series)) == wanted; }))
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << series << " is " << (seen ? std::to_string(*seen) : "not there") << ", not " << wanted
         << "\n"
         << worker.process().errors();
}

std::string text_of(const std::string& name) {
  std::ifstream file(std::string(DOCS_FOLDER) + "/" + name);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_FALSE(text.str().empty()) << name;
  return text.str();
}

class Metrics : public testing::Test {
 protected:
  Metrics()
      : worker(database.url(),
               {"--handlers", test_handlers(), "--max-attempts", "2", "--retry-delay", "10ms"}) {
    worker.wait_until_ready();
  }

  // One of everything, so that every metric has a series.
  void work() {
    enqueue(database, "Fine", json::array());
    EXPECT_TRUE(comes_to(worker, "spillway_events_total{outcome=\"done\",type=\"Fine\"}", 1));
    EXPECT_TRUE(comes_to(worker, "spillway_database_up", 1));
    EXPECT_TRUE(
        eventually([&] { return scrape(worker).families().contains("spillway_queue_events"); }));
  }

  Database database;
  Worker worker;
};

TEST_F(Metrics, are_exact_after_known_work) {
  SseClient live(worker.port(), "/sse/Room/1");
  ASSERT_TRUE(live.next());
  enqueue(database, "Fine", tell(false), 3);
  enqueue(database, "Typing", tell(true));
  enqueue(database, "Bad", {{{"throw", "no luck"}}});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(live.next());
  ASSERT_TRUE(comes_to(worker, "spillway_events_total{outcome=\"dead\",type=\"Bad\"}", 1));
  SseClient resumed(worker.port(), "/sse/Room/1?last_event_id=earliest");
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(resumed.next());
  ASSERT_TRUE(comes_to(worker, "spillway_dead_letters", 1));

  const Exposition seen = scrape(worker);
  EXPECT_EQ(seen.problems(), std::vector<std::string>{});
  const std::map<std::string, double> expected{
      {"spillway_events_total{outcome=\"done\",type=\"Fine\"}", 3},
      {"spillway_events_total{outcome=\"done\",type=\"Typing\"}", 1},
      {"spillway_events_total{outcome=\"done\",type=\"Bad\"}", 0},
      {"spillway_events_total{outcome=\"retried\",type=\"Bad\"}", 1},
      {"spillway_events_total{outcome=\"dead\",type=\"Bad\"}", 1},
      {"spillway_events_total{outcome=\"unhandled\",type=\"Fine\"}", 0},
      {"spillway_handler_seconds_count{type=\"Fine\"}", 3},
      {"spillway_handler_seconds_count{type=\"Bad\"}", 2},
      {"spillway_batch_events_sum", 6},
      {"spillway_broadcasts_total{kind=\"durable\"}", 3},
      {"spillway_broadcasts_total{kind=\"ephemeral\"}", 1},
      {"spillway_queue_events{state=\"pending\"}", 0},
      {"spillway_queue_events{state=\"retrying\"}", 0},
      {"spillway_queue_events{state=\"scheduled\"}", 0},
      {"spillway_queue_oldest_seconds", 0},
      {"spillway_stream_head_position", 3},
      {"spillway_processes{role=\"worker\"}", 1},
      {"spillway_processes{role=\"sse\"}", 1},
      {"spillway_runners", 2},
      {"spillway_streams_opened_total", 2},
      {"spillway_connections{kind=\"stream\"}", 2},
      {"spillway_stream_starts_total{source=\"fresh\"}", 1},
      {"spillway_stream_starts_total{source=\"database\"}", 1},
      {"spillway_frames_sent_total{source=\"memory\"}", 4},
      {"spillway_frames_sent_total{source=\"database\"}", 3},
      {"spillway_catchup_pages_waiting", 0},
      {"spillway_stream_log_positions", 3},
      {"spillway_webhook_attempts_total{outcome=\"sent\"}", 0},
      {"spillway_database_connects_total{result=\"failed\"}", 0},
  };
  for (const auto& [series, value] : expected) EXPECT_EQ(seen.value(series), value) << series;
  EXPECT_EQ(seen.sum("spillway_stream_ends_total"), 0);
  EXPECT_EQ(seen.sum("spillway_refusals_total"), 0);
  // The live stream got four frames, in one call or in several; the other one did not wait.
  EXPECT_GE(seen.value("spillway_commit_to_socket_seconds_count").value_or(0), 1);
  EXPECT_LE(seen.value("spillway_commit_to_socket_seconds_count").value_or(9), 4);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(Metrics, count_events_that_are_given_up_or_have_no_handler) {
  enqueue(database, "Bad", {{{"throw", "no luck"}}});
  ASSERT_TRUE(comes_to(worker, "spillway_events_total{outcome=\"dead\",type=\"Bad\"}", 1));
  database.query("SELECT spillway.discard(event_id) FROM spillway.dead_letters");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(worker.stop(), 0);
  Worker without(database.url());
  without.wait_until_ready();
  enqueue(database, "Nobody's", json::array(), 5);
  EXPECT_TRUE(
      comes_to(without, "spillway_events_total{outcome=\"unhandled\",type=\"Nobody's\"}", 5));
}

TEST_F(Metrics, types_from_outside_do_not_make_lines_without_end) {
  database.query(
      "INSERT INTO spillway.events (type) SELECT 'Type ' || i FROM generate_series(1, 400) AS i");
  ASSERT_TRUE(eventually([&] { return drained(database); }));
  ASSERT_TRUE(eventually([&] { return scrape(worker).sum("spillway_events_total") == 400; }));
  const Exposition seen = scrape(worker);
  EXPECT_EQ(seen.problems(), std::vector<std::string>{});
  EXPECT_LE(seen.families().at("spillway_events_total").series, 51u * 5);
  EXPECT_EQ(seen.value("spillway_events_total{outcome=\"done\",type=\"other\"}"), 350);
}

TEST_F(Metrics, of_the_process_are_there_while_the_database_is_away) {
  work();
  server().stop();
  EXPECT_TRUE(comes_to(worker, "spillway_database_up", 0));
  const Exposition away = scrape(worker);
  EXPECT_EQ(away.problems(), std::vector<std::string>{});
  EXPECT_EQ(away.value("spillway_events_total{outcome=\"done\",type=\"Fine\"}"), 1);
  server().start(server_settings());
  EXPECT_TRUE(comes_to(worker, "spillway_database_up", 1));
  EXPECT_GE(scrape(worker).value("spillway_database_connects_total{result=\"failed\"}").value_or(0),
            1);
}

TEST_F(Metrics, never_show_a_token_or_a_channel) {
  SseClient client(worker.port(), "/sse/Secret/room?access_token=hush-hush");
  static_cast<void>(client.next());
  http(worker.port(), "GET", "/api/status?access_token=hush-hush");
  work();
  const HttpAnswer answer = http(worker.port(), "GET", "/metrics?access_token=hush-hush");
  EXPECT_EQ(answer.body.find("hush"), std::string::npos);
  EXPECT_EQ(answer.body.find("Secret"), std::string::npos);
}

// | `name` | type | labels | meaning |
TEST_F(Metrics, are_those_that_the_documentation_lists) {
  work();
  std::set<std::string> listed;
  const std::string page = text_of("monitoring.md");
  const std::regex row(
      "\\n\\| `((?:spillway|process)_[a-z_]+)` \\| ([a-z]+) \\| *([^|]*)\\| [^|]+ \\|");
  for (std::sregex_iterator next(page.begin(), page.end(), row), end; next != end; ++next) {
    std::string labels;
    const std::string cell = (*next)[3];
    const std::regex label("`([a-z_]+)`");
    std::set<std::string> names;
    for (std::sregex_iterator each(cell.begin(), cell.end(), label); each != end; ++each)
      names.insert((*each)[1]);
    for (const auto& name : names) labels += " " + name;
    EXPECT_TRUE(listed.insert((*next)[1].str() + " " + (*next)[2].str() + labels).second)
        << (*next)[1] << " is listed twice";
  }
  std::set<std::string> exported;
  const Exposition seen = scrape(worker);
  for (const auto& [name, family] : seen.families()) {
    std::string labels;
    for (const auto& label : family.labels) labels += " " + label;
    exported.insert(name + " " + family.type + labels);
  }
  EXPECT_EQ(listed, exported);
}

TEST_F(Metrics, that_the_dashboard_and_the_alerts_use_exist) {
  work();
  const auto families = scrape(worker).families();
  for (const char* file : {"grafana.json", "alerts.yml"}) {
    const std::string text = text_of(file);
    const std::regex name("\\b(?:spillway|process)_[a-z_]+\\b");
    std::size_t found = 0;
    for (std::sregex_iterator next(text.begin(), text.end(), name), end; next != end; ++next) {
      std::string metric = next->str();
      for (const std::string suffix : {"_bucket", "_count", "_sum"})
        if (metric.ends_with(suffix) && !families.contains(metric))
          metric.resize(metric.size() - suffix.size());
      EXPECT_TRUE(families.contains(metric)) << file << ": " << next->str();
      ++found;
    }
    EXPECT_GT(found, 10u) << file;
  }
  const json dashboard = json::parse(text_of("grafana.json"));
  EXPECT_EQ(dashboard.at("templating").at("list").at(0).at("type"), "datasource");
  std::set<int> ids;
  for (const json& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << panel.at("title");
    if (panel.at("type") == "row") continue;
    EXPECT_EQ(panel.at("datasource").at("uid"), "${datasource}") << panel.at("title");
    EXPECT_FALSE(panel.at("targets").empty()) << panel.at("title");
  }
}

}  // namespace
}  // namespace spillway::test
