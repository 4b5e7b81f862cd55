#include "processor/cli/arguments.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "processor/cli/commands.hpp"
#include "processor/cli/run_options.hpp"
#include "tests/support/database.hpp"

namespace spillway::cli {
namespace {

class ArgumentsTest : public testing::Test {
 protected:
  ArgumentsTest() {
    command = app.add_subcommand("run");
    command->add_option("--config", config);
    options.add_to(*command);
  }

  void parse(std::vector<std::string> arguments) {
    auto all = with_other_sources(app, arguments,
                                  [&](const std::string& name) -> std::optional<std::string> {
                                    const auto found = environment.find(name);
                                    if (found == environment.end()) return std::nullopt;
                                    return found->second;
                                  });
    std::reverse(all.begin(), all.end());
    app.parse(std::move(all));
  }

  std::string file(const std::string& text) {
    const auto path = test::scratch_folder() / "config.toml";
    std::ofstream(path) << text;
    return path.string();
  }

  CLI::App app;
  CLI::App* command = nullptr;
  std::string config;
  RunOptions options;
  std::map<std::string, std::string> environment;
};

TEST_F(ArgumentsTest, FlagsWinOverTheEnvironmentAndThatOverTheFile) {
  environment = {{"SPILLWAY_LISTEN", "127.0.0.1:2"}, {"SPILLWAY_BATCH", "20"}};
  parse({"run", "--listen", "127.0.0.1:1", "--config",
         file("listen = \"127.0.0.1:3\"\nbatch = 30\nrunners = 3\n")});
  EXPECT_EQ(options.connections.listen, std::vector<std::string>{"127.0.0.1:1"});
  EXPECT_EQ(options.batch, 20u);
  EXPECT_EQ(options.runners, 3u);
}

// `dead list`: the options of the command below are meant, in the environment and in the file.
TEST_F(ArgumentsTest, CommandsBelowCommandsHaveTheirOwnOptions) {
  CLI::App* dead = app.add_subcommand("dead");
  dead->require_subcommand(1);
  int limit = 0;
  bool json = false;
  bool yes = false;
  std::string error;
  std::vector<int> ids;
  std::string dead_config;
  CLI::App* list = dead->add_subcommand("list");
  list->add_option("--limit", limit);
  list->add_flag("--json", json);
  list->add_option("--error", error);
  list->add_option("--config", dead_config);
  CLI::App* discard = dead->add_subcommand("discard");
  discard->add_flag("--yes", yes);
  discard->add_option("ids", ids);
  discard->add_option("--config", dead_config);
  environment = {{"SPILLWAY_LIMIT", "7"}, {"SPILLWAY_ERROR", "no luck"}};
  const std::string path = file(
      "listen = \"127.0.0.1:3\"\n[dead]\njson = true\nerror = \"x\"\n"
      "yes = true\n");
  parse({"dead", "list", "--limit", "9", "--config", path});
  EXPECT_EQ(limit, 9);
  EXPECT_EQ(error, "no luck");
  EXPECT_TRUE(json);
  EXPECT_FALSE(yes);
  parse({"dead", "discard", "4", "5", "--config", path});
  EXPECT_EQ(ids, (std::vector<int>{4, 5}));
  EXPECT_TRUE(yes);
  EXPECT_THROW(parse({"dead"}), CLI::ParseError);
  try {
    parse({"dead", "lst"});
    ADD_FAILURE();
  } catch (const CLI::ParseError& wrong) {
    EXPECT_STREQ(wrong.what(), "`dead` has no command \"lst\"; see `spillway dead --help`");
  }
  EXPECT_THROW(parse({"dead", "list", "--config", file("[dead]\ncolour = 1\n")}), CLI::ConfigError);
}

TEST_F(ArgumentsTest, ListsAndFlags) {
  environment = {
      {"SPILLWAY_HANDLERS", "a.so:b.so"}, {"SPILLWAY_INSECURE", "true"}, {"SPILLWAY_ROLES", "sse"}};
  parse({"run"});
  EXPECT_EQ(options.handlers, (std::vector<std::string>{"a.so", "b.so"}));
  EXPECT_TRUE(options.insecure);
  EXPECT_EQ(options.roles, (std::vector<std::string>{"sse"}));
}

TEST_F(ArgumentsTest, AListOnTheCommandLineReplacesTheOthers) {
  environment = {{"SPILLWAY_HANDLERS", "a.so"}};
  parse({"run", "--handlers", "x.so", "--handlers=y.so"});
  EXPECT_EQ(options.handlers, (std::vector<std::string>{"x.so", "y.so"}));
}

TEST_F(ArgumentsTest, TheFileMayHaveASectionOfTheCommand) {
  parse({"run", "--config",
         file("[run]\nhandlers = [\"a.so\", \"b.so\"]\nmax_attempts = 9\n[other]\nx = 1\n")});
  EXPECT_EQ(options.handlers, (std::vector<std::string>{"a.so", "b.so"}));
  EXPECT_EQ(options.max_attempts, 9);
}

TEST_F(ArgumentsTest, WhatTheFileMisspellsIsSaid) {
  try {
    parse({"run", "--config", file("lisen = \"x\"\n")});
    FAIL();
  } catch (const CLI::ParseError& error) {
    EXPECT_NE(std::string(error.what()).find("has no option \"lisen\""), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(parse({"run", "--config", "/nonexistent.toml"}), CLI::ParseError);
}

TEST(ParseDuration, UnitsAndErrors) {
  using std::chrono::milliseconds;
  EXPECT_EQ(parse_duration("10", "--x"), milliseconds(10000));
  EXPECT_EQ(parse_duration("1.5s", "--x"), milliseconds(1500));
  EXPECT_EQ(parse_duration("500ms", "--x"), milliseconds(500));
  EXPECT_EQ(parse_duration("2m", "--x"), milliseconds(120000));
  EXPECT_EQ(parse_duration("1h", "--x"), milliseconds(3600000));
  for (const char* wrong : {"", "x", "1y", "-1s", "1 s"})
    EXPECT_THROW(static_cast<void>(parse_duration(wrong, "--x")), ConfigurationError) << wrong;
}

TEST(RunOptionsTest, AddressesAreReadOrExplained) {
  EXPECT_EQ(parse_endpoint("[::1]:0").host, "::1");
  EXPECT_EQ(parse_endpoint("[::1]:0").text(), "[::1]:0");
  EXPECT_EQ(parse_endpoint("unix:/run/x.sock").path, "/run/x.sock");
  EXPECT_TRUE(parse_endpoint("unix:x.sock").path.starts_with("/"));
  for (const char* wrong : {"8080", ":8080", "host:", "host:99999", "host:x", "unix:"})
    EXPECT_THROW(static_cast<void>(parse_endpoint(wrong)), ConfigurationError) << wrong;
}

TEST(RunOptionsTest, EachListenIsAnEndpoint) {
  RunOptions options;
  options.connections.listen = {"127.0.0.1:0", "unix:/run/x.sock", "[::1]:8080"};
  options.connections.listen_mode = "0600";
  const auto listen = options.worker_options({}).server.listen;
  ASSERT_EQ(listen.size(), 3u);
  EXPECT_EQ(listen[1].text(), "unix:/run/x.sock");
  EXPECT_EQ(listen[1].mode, 0600u);
  EXPECT_EQ(listen[2].port, 8080);
}

TEST(RunOptionsTest, WhatIsNoLimitIsExplained) {
  const auto refused = [](auto change, const std::string& words) {
    RunOptions options;
    change(options.connections);
    try {
      static_cast<void>(options.worker_options({}));
      ADD_FAILURE() << "taken: " << words;
    } catch (const ConfigurationError& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  using Options = ConnectionOptions;
  refused([](Options& o) { o.listen_mode = "0999"; }, "--listen-mode 0999: write");
  refused([](Options& o) { o.listen_mode = "rw"; }, "--listen-mode rw: write");
  refused([](Options& o) { o.trusted_proxy = {"proxy"}; }, "10.1.0.0/16 or fd00::/8, or unix");
  refused([](Options& o) { o.header_timeout = "1ms"; }, "--header-timeout 1ms: write 100ms");
  refused([](Options& o) { o.body_timeout = "2h"; }, "--body-timeout 2h: write 100ms to 1h");
  refused([](Options& o) { o.blocked_timeout = "0"; }, "--blocked-timeout 0: write 1s to 1h");
  refused([](Options& o) { o.listen.assign(17, "127.0.0.1:0"); }, "--listen: write 1 to 16");
}

TEST(RunOptionsTest, ThisMachineIsCountedOnlyWhenTheLimitIsGiven) {
  RunOptions options;
  EXPECT_FALSE(options.worker_options({}).server.count_local_addresses);
  options.connections.max_connections_per_address = 7;
  EXPECT_TRUE(options.worker_options({}).server.count_local_addresses);
  EXPECT_EQ(options.worker_options({}).server.max_connections_per_address, 7u);
}

TEST(ShellQuoted, IsSafeInDoubleQuotes) {
  EXPECT_EQ(shell_quoted("VALUES ('A', '{\"x\":\"$1 `y` \\\"}')"),
            "\"VALUES ('A', '{\\\"x\\\":\\\"\\$1 \\`y\\` \\\\\\\"}')\"");
}

}  // namespace
}  // namespace spillway::cli
