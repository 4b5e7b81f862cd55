// The commands besides run and dev, and where options come from.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Finished spillway(const Database& database, std::vector<std::string> words,
                  std::map<std::string, std::string> environment = {}) {
  words.insert(words.begin(), spillway_binary());
  environment.emplace("DATABASE_URL", database.url());
  return run(words, environment);
}

TEST(Cli, migrate_from_eight_processes_at_once_makes_one_schema) {
  Database database(false);
  Database migrated;
  const std::string versions =
      "SELECT string_agg(version || ' ' || name, ', ') FROM"
      " (SELECT * FROM spillway.migrations ORDER BY version) m";
  const std::string objects =
      "SELECT string_agg(o.kind || ' ' || o.name, ', ' ORDER BY o.kind COLLATE \"C\", o.name "
      "COLLATE \"C\") FROM ("
      " SELECT relkind::text AS kind, relname::text AS name FROM pg_class"
      "  WHERE relnamespace = 'spillway'::regnamespace"
      " UNION ALL SELECT 'function', proname::text FROM pg_proc"
      "  WHERE pronamespace = 'spillway'::regnamespace"
      " UNION ALL SELECT 'trigger', tgname::text FROM pg_trigger WHERE NOT tgisinternal) o";
  std::vector<std::unique_ptr<Process>> processes;
  for (int i = 0; i < 8; ++i)
    processes.push_back(std::make_unique<Process>(
        std::vector<std::string>{spillway_binary(), "migrate", "--database-url", database.url()}));
  int applied = 0;
  for (auto& process : processes) {
    EXPECT_EQ(process->wait(60s), 0) << process->errors();
    const std::string output = process->output();
    for (std::size_t at = 0; (at = output.find("applied ", at)) != std::string::npos; ++at)
      ++applied;
  }
  EXPECT_EQ(applied, database.number("SELECT count(*) FROM spillway.migrations"));
  EXPECT_EQ(database.value(versions), migrated.value(versions));
  EXPECT_EQ(database.value(objects), migrated.value(objects));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.stream_head"), 1);

  const auto again = spillway(database, {"migrate"});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_TRUE(contains(again.output, "nothing to do")) << again.output;
  const auto status = spillway(database, {"migrate", "--status"});
  EXPECT_EQ(status.exit_code, 0);
  EXPECT_TRUE(contains(status.output, "applied  1  events")) << status.output;
  EXPECT_FALSE(contains(status.output, "pending")) << status.output;
}

TEST(Cli, enqueue_inserts_one_event_with_all_it_may_carry) {
  Database database;
  const auto plain = spillway(database, {"enqueue", "Plain"});
  EXPECT_EQ(plain.exit_code, 0) << plain.errors;
  EXPECT_EQ(plain.output, "1\n");
  const std::vector<std::string> full = {"enqueue",
                                         "Full",
                                         R"({"text":"a 'quoted' \"text\""})",
                                         "--stream",
                                         "item:1",
                                         "--stream-version",
                                         "1",
                                         "--context",
                                         R"({"item_owner_id":"7"})",
                                         "--correlation-id",
                                         "7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b11",
                                         "--idempotency-key",
                                         "k",
                                         "--priority",
                                         "3",
                                         "--execute-at",
                                         "2099-01-31T12:00:00Z",
                                         "--max-attempts",
                                         "9"};
  const auto first = spillway(database, full);
  EXPECT_EQ(first.output, "2\n") << first.errors;
  EXPECT_EQ(json::parse(database.value("SELECT to_jsonb(e) - 'created_at' - 'causation_id'"
                                       " FROM spillway.events e WHERE id = 2")),
            json::parse(R"({"id":2,"type":"Full","payload":{"text":"a 'quoted' \"text\""},
              "stream":"item:1","stream_version":1,"context":{"item_owner_id":"7"},
              "correlation_id":"7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b11","idempotency_key":"k",
              "priority":3,"execute_at":"2099-01-31T12:00:00+00:00","max_attempts":9})"));
  const auto twice = spillway(database, full);
  EXPECT_EQ(twice.exit_code, 1);
  EXPECT_TRUE(contains(twice.errors, "SQLSTATE 23505")) << twice.errors;
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 2);
}

TEST(Cli, enqueue_of_a_file_names_the_line_that_is_wrong) {
  Database database;
  const auto path = scratch_folder() / "events.ndjson";
  const auto write = [&](int good, const std::string& bad) {
    std::ofstream file(path);
    for (int n = 1; n <= good; ++n)
      file << R"({"type":"A","payload":{"n":)" << n << R"(},"stream":"s"})" << '\n';
    file << bad << '\n' << R"({"type":"Behind"})" << '\n';
  };
  write(2500, "");  // an empty line is none
  const auto fine = spillway(database, {"enqueue", "--file", path.string()});
  EXPECT_EQ(fine.exit_code, 0) << fine.errors;
  EXPECT_EQ(fine.output, "2501 events enqueued\n");
  EXPECT_EQ(
      database.value("SELECT count(*) || ' ' || count(*) FILTER (WHERE (payload ->> 'n')::int = id)"
                     " FROM spillway.events"),
      "2501 2500");

  struct Bad {
    std::string line;
    std::string words;
  };
  long long before = 2501;
  for (const Bad& bad :
       {Bad{"{\"type\":\"A\"", "is not valid JSON"}, Bad{"[]", "an event must be an object"},
        Bad{"{\"payload\":{}}", "field \"type\" is missing"},
        Bad{R"({"type":"A","colour":"red"})", "field \"colour\" is unknown"},
        Bad{R"({"type":"A","priority":"high"})", "field \"priority\" must be an integer"}}) {
    write(1200, bad.line);
    const auto result = spillway(database, {"enqueue", "--file", path.string()});
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    EXPECT_TRUE(contains(result.errors, path.string() + ", line 1201")) << result.errors;
    EXPECT_TRUE(contains(result.errors, bad.words)) << result.errors;
    EXPECT_TRUE(contains(result.errors, "1200 events before it are enqueued")) << result.errors;
    before += 1200;
    EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), before);
  }
  // What only the database knows is wrong: the lines of its batch are named.
  write(1200, R"({"type":"A","execute_at":"some day"})");
  const auto refused = spillway(database, {"enqueue", "--file", path.string()});
  EXPECT_EQ(refused.exit_code, 1) << refused.errors;
  EXPECT_TRUE(contains(refused.errors, ", lines 1001 to 1202: ")) << refused.errors;
  EXPECT_TRUE(contains(refused.errors, "the 1000 events before them are enqueued"))
      << refused.errors;
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), before + 1000);
  EXPECT_EQ(
      spillway(database, {"enqueue", "--file", (scratch_folder() / "none").string()}).exit_code, 2);
}

TEST(Cli, status_counts_what_there_is) {
  Database database;
  database.query(
      "INSERT INTO spillway.events (type) VALUES ('A'), ('A'), ('A');"
      "INSERT INTO spillway.events (type, execute_at) VALUES ('A', now() + '1 day'),"
      " ('A', now() + '2 days')");
  const auto idle = spillway(database, {"status", "--json", "--interval", "0"});
  ASSERT_EQ(idle.exit_code, 0) << idle.errors;
  const json before = json::parse(idle.output);
  EXPECT_EQ(before.at("pending"), 3);
  EXPECT_EQ(before.at("scheduled"), 2);
  EXPECT_EQ(before.at("retrying"), 0);
  EXPECT_EQ(before.at("dead"), 0);
  EXPECT_EQ(before.at("head"), 0);
  EXPECT_EQ(before.at("last_event_id"), 5);
  EXPECT_EQ(before.at("workers"), 0);
  EXPECT_GE(before.at("oldest_pending_seconds").get<double>(), 0);

  Worker worker(database.url(), {"--unhandled", "dead", "--runners", "3"});
  worker.wait_until_ready();
  json after;
  EXPECT_TRUE(eventually([&] {
    after = json::parse(spillway(database, {"status", "--json", "--interval", "0"}).output);
    return after.at("dead") == 3 && after.at("workers") == 1;
  })) << after;
  EXPECT_EQ(after.at("pending"), 0);
  EXPECT_EQ(after.at("oldest_pending_seconds"), nullptr);
  EXPECT_EQ(after.at("runners"), 3);
  EXPECT_EQ(after.at("stream_servers"), 1);
  EXPECT_EQ(after.at("scheduled"), 2);
  const auto rates = spillway(database, {"status", "--json", "--interval", "50ms"});
  EXPECT_EQ(json::parse(rates.output).at("settled_per_second"), 0.0) << rates.output;
  const auto text = spillway(database, {"status", "--interval", "0"});
  EXPECT_TRUE(contains(text.output, "dead                3\n")) << text.output;
}

TEST(Cli, tail_prints_what_was_and_what_comes_and_stops_at_its_count) {
  Database database;
  load_example(database);
  Worker worker(database.url(), {"--handlers", comments_library()});
  worker.wait_until_ready();
  const auto join = [&](const std::string& user, const std::string& room) {
    database.query(
        "INSERT INTO spillway.events (type, stream, payload) VALUES ('UserJoined', 'rooms',"
        " '{\"user\":\"" +
        user + "\",\"room\":\"" + room + "\"}')");
  };
  join("Ada", "a");
  join("Bob", "b");
  ASSERT_TRUE(eventually([&] { return drained(database); }));

  Process tail({spillway_binary(), "tail", "ChatStream:room:a", "Other:*", "--from", "earliest",
                "--count", "2", "--database-url", database.url()});
  EXPECT_TRUE(eventually([&] {
    return tail.output() ==
           "1\tChatStream:room:a\tuser_joined\t{\"room\":\"a\",\"user\":\"Ada\"}\n";
  })) << tail.output()
      << tail.errors();
  EXPECT_TRUE(tail.running());
  join("Cid", "b");
  join("Dot", "a");
  EXPECT_EQ(tail.wait(), 0) << tail.errors();
  EXPECT_TRUE(contains(tail.output(),
                       "4\tChatStream:room:a\tuser_joined\t{\"room\":\"a\",\"user\":\"Dot\"}\n"))
      << tail.output();

  const auto lines =
      spillway(database, {"tail", "ChatStream:*", "--from", "2", "--count", "2", "--json"});
  EXPECT_EQ(lines.exit_code, 0);
  const std::size_t end = lines.output.find('\n');
  EXPECT_EQ(json::parse(lines.output.substr(0, end)),
            json({{"position", 3},
                  {"channel", "ChatStream:room:b"},
                  {"event_type", "user_joined"},
                  {"data", R"({"room":"b","user":"Cid"})"},
                  {"ephemeral", false}}));
}

TEST(Cli, flags_win_over_the_environment_and_that_over_the_file) {
  Database database;
  const auto config = scratch_folder() / "spillway.toml";
  std::ofstream(config) << "runners = 5\nlisten = \"127.0.0.1:0\"\n[run]\nunhandled = \"dead\"\n"
                           "[enqueue]\npriority = 7\n";
  const auto runners = [&](const std::vector<std::string>& flags,
                           const std::map<std::string, std::string>& variables) {
    std::vector<std::string> command{spillway_binary(), "run"};
    command.insert(command.end(), flags.begin(), flags.end());
    auto environment = variables;
    environment["DATABASE_URL"] = database.url();
    const auto port_file = scratch_folder() / "config.port";
    std::filesystem::remove(port_file);
    environment["SPILLWAY_PORT_FILE"] = port_file.string();
    Process process(command, environment);
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(port_file); })) << process.errors();
    json status;
    EXPECT_TRUE(eventually([&] {
      status = json::parse(spillway(database, {"status", "--json", "--interval", "0"}).output);
      return status.at("workers") == 1;
    }));
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait(), 0);
    // The next one must not find this one's session any more.
    EXPECT_TRUE(eventually([&] {
      return database.number(
                 "SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                 " 'spillway-run'") == 0;
    }));
    return status.at("runners").get<int>();
  };
  const std::string file = config.string();
  EXPECT_EQ(runners({"--listen", "127.0.0.1:0"}, {}), 2);
  EXPECT_EQ(runners({"--config", file}, {}), 5);
  EXPECT_EQ(runners({}, {{"SPILLWAY_CONFIG", file}}), 5);
  EXPECT_EQ(runners({"--config", file}, {{"SPILLWAY_RUNNERS", "4"}}), 4);
  EXPECT_EQ(runners({"--config", file, "--runners", "3"}, {{"SPILLWAY_RUNNERS", "4"}}), 3);

  // A section belongs to its command only.
  EXPECT_EQ(spillway(database, {"enqueue", "A", "--config", file}).exit_code, 0);
  EXPECT_EQ(database.number("SELECT priority FROM spillway.events"), 7);
  EXPECT_EQ(spillway(database, {"enqueue", "A", "--config", file}, {{"SPILLWAY_PRIORITY", "6"}})
                .exit_code,
            0);
  EXPECT_EQ(database.number("SELECT max(id * 100 + priority) FROM spillway.events"), 206);

  std::ofstream(config) << "[run]\nrunnners = 5\n";
  const auto typo = spillway(database, {"run", "--config", file});
  EXPECT_EQ(typo.exit_code, 2);
  EXPECT_TRUE(contains(typo.errors, "runnners")) << typo.errors;
  const auto bad = spillway(database, {"run"}, {{"SPILLWAY_RUNNERS", "many"}});
  EXPECT_EQ(bad.exit_code, 2);
}

TEST(Cli, the_database_is_named_by_flag_variable_or_libpqs_own) {
  Database right;
  Database wrong(false);
  const auto status = [&](const std::vector<std::string>& flags,
                          const std::map<std::string, std::string>& variables) {
    std::vector<std::string> command{spillway_binary(), "status", "--interval", "0"};
    command.insert(command.end(), flags.begin(), flags.end());
    return run(command, variables).exit_code;
  };
  EXPECT_EQ(status({"--database-url", right.url()}, {{"DATABASE_URL", wrong.url()}}), 0);
  EXPECT_EQ(status({}, {{"DATABASE_URL", right.url()}}), 0);
  EXPECT_EQ(status({}, {{"DATABASE_URL", wrong.url()}}), 4);
  EXPECT_EQ(status({}, {{"SPILLWAY_DATABASE_URL", right.url()}, {"DATABASE_URL", wrong.url()}}), 0);
  const std::string url = right.url();
  const std::string host = url.substr(url.find("host=") + 5, url.find('&') - url.find("host=") - 5);
  std::string decoded;
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (host[i] != '%')
      decoded += host[i];
    else
      decoded += static_cast<char>(std::stoi(host.substr(i + 1, 2), nullptr, 16)), i += 2;
  }
  EXPECT_EQ(status({}, {{"PGHOST", decoded},
                        {"PGPORT", "5432"},
                        {"PGUSER", "postgres"},
                        {"PGDATABASE", right.value("SELECT current_database()")}}),
            0);
}

TEST(Cli, help_and_version_exit_0_and_show_no_password) {
  Database database;
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--help"}, {"--version"}, {"run", "--help"}, {"tail", "--help"}}) {
    const auto result = spillway(database, words,
                                 {{"DATABASE_URL", "postgresql://a:s3cretword@h/d"},
                                  {"SPILLWAY_DATABASE_URL", "postgresql://a:s3cretword@h/d"}});
    EXPECT_EQ(result.exit_code, 0) << words.front() << result.errors;
    EXPECT_FALSE(result.output.empty());
    EXPECT_FALSE(contains(result.output + result.errors, "s3cret")) << result.output;
  }
}

}  // namespace
}  // namespace spillway::test
