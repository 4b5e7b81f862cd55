// `spillway try`, as a user sees it.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "processor/line_diff.hpp"
#include "tests/support/database.hpp"
#include "tests/support/process.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;

class TryTest : public testing::Test {
 protected:
  TryTest() {
    folder =
        scratch_folder() / "try" / testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder);
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream stream(folder / name);
    std::stringstream text;
    text << stream.rdbuf();
    return text.str();
  }

  Finished attempt(std::vector<std::string> options) const {
    std::vector<std::string> command{spillway_binary(), "try", "--handlers", folder.string()};
    command.insert(command.end(), options.begin(), options.end());
    return run(command);
  }

  std::filesystem::path folder;
};

TEST_F(TryTest, AMadeUpEventNeedsNoDatabase) {
  write(
      "Said.jq",
      R"([{SSEBroadcast: {channel: ("c:" + .stream), event_type: .type, data: [.payload, .context]}}])");
  const Finished finished =
      attempt({"--type", "Said", "--payload", R"({"a": 1})", "--context", R"({"b": 2})", "--stream",
               "s:1", "--database-url", "host=/nonexistent"});
  EXPECT_EQ(finished.errors, "");
  EXPECT_EQ(json::parse(finished.output),
            json::parse(R"([{"SSEBroadcast": {"channel": "c:s:1", "event_type": "Said",
                                              "data": [{"a": 1}, {"b": 2}]}}])"));
  EXPECT_EQ(finished.exit_code, 0);
}

TEST_F(TryTest, BothFormsOfTheExampleGiveTheSame) {
  const auto output = [](const std::string& handlers) {
    return run({spillway_binary(), "try", "--handlers", handlers, "--type", "UserJoined",
                "--payload", R"({"user": "Ada"})"})
        .output;
  };
  EXPECT_EQ(output(EXAMPLE_FOLDER "/handlers"), output(comments_library()));
  EXPECT_NE(output(comments_library()), "");
}

TEST_F(TryTest, AFailureIsExitCode1AndAnUnhandledTypeIsSaid) {
  write("Bad.jq", R"(error("no way"))");
  Finished finished = attempt({"--type", "Bad"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.output, "");
  EXPECT_EQ(finished.errors, "spillway: event 1 (Bad): Bad.jq: no way\n");
  finished = attempt({"--type", "Other"});
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.output, "[]\n");
  EXPECT_EQ(finished.errors, "spillway: there is no handler for type \"Other\"\n");
}

TEST_F(TryTest, AnEventOfTheLogIsReadWithItsRowsAndNothingIsApplied) {
  Database database;
  database.query("CREATE TABLE items (id text, title text)");
  database.query("INSERT INTO items VALUES ('42', 'The answer')");
  database.query("CREATE TABLE comments (id serial, title text CHECK (title <> ''))");
  write("Added.jq",
        R"([{Insert: {table: "comments", data: [{title: .data[0].title}, {title: "b"}]}},
            {KVSet: {key: "last", value: .id}}])");
  write("Added.sql", "SELECT title FROM items WHERE id = event->'payload'->>'id'");
  database.query(R"(INSERT INTO spillway.events (type, payload) VALUES ('Added', '{"id": "42"}'))");

  Finished finished = attempt({"--event", "1", "--database-url", database.url()});
  EXPECT_EQ(finished.errors, "");
  EXPECT_EQ(finished.exit_code, 0);
  const json effects = json::parse(R"([{"Insert": {"table": "comments", "data":
      [{"title": "The answer"}, {"title": "b"}]}}, {"KVSet": {"key": "last", "value": 1}}])");
  EXPECT_EQ(finished.output, effects.dump(2) + "\n");

  finished = attempt({"--event", "1", "--rows", "--database-url", database.url()});
  EXPECT_EQ(finished.errors, "");
  EXPECT_EQ(finished.output.substr(0, effects.dump(2).size()), effects.dump(2));
  EXPECT_EQ(
      finished.output.substr(effects.dump(2).size(), 84),
      "\neffect 0 (Insert into comments): 2 rows  {\"title\":\"The answer\"},{\"title\":\"b\"}\n"
      "effec");
  EXPECT_EQ(database.number("SELECT count(*) FROM comments"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.kv"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 1);

  finished = attempt({"--event", "9", "--database-url", database.url()});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.errors, "spillway: there is no event 9 in spillway.events\n");

  database.query("ALTER TABLE comments RENAME TO remarks");
  finished = attempt({"--event", "1", "--database-url", database.url()});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.errors,
            "spillway: event 1 (Added): effect 0 (Insert), field \"table\": there is no table "
            "\"comments\"\n");
}

TEST_F(TryTest, GoldenFilesAreWrittenComparedAndTheDifferenceIsShown) {
  write("A.jq", "[.data[] | {KVSet: {key: .key, value: (.n + 1)}}]");
  write("A.sql", "SELECT 1");
  write("one.event.json", R"({"type": "A", "data": [{"key": "k", "n": 1}, {"key": "l", "n": 2}]})");
  write("two.event.json", R"({"type": "A"})");
  const std::string golden = folder.string();

  Finished finished = attempt({"--golden", golden});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_NE(finished.output.find("FAILED two\ntwo.effects.json is missing; --update writes it:\n"
                                 "[]\n0 passed, 2 failed\n"),
            std::string::npos)
      << finished.output;
  finished = attempt({"--golden", golden, "--update"});
  EXPECT_EQ(finished.output, "2 passed, 0 failed, 2 written\n");
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(read("two.effects.json"), "[]\n");
  finished = attempt({"--golden", golden});
  EXPECT_EQ(finished.output, "2 passed, 0 failed\n");
  EXPECT_EQ(finished.exit_code, 0);

  write("A.jq", "[.data[] | {KVSet: {key: .key, value: (.n + .n)}}]");
  finished = attempt({"--golden", golden});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.output,
            "FAILED one\n"
            "- expected, + given\n"
            "  …\n"
            "      \"KVSet\": {\n"
            "        \"key\": \"l\",\n"
            "-       \"value\": 3\n"
            "+       \"value\": 4\n"
            "      }\n"
            "    }\n"
            "  …\n"
            "1 passed, 1 failed\n");

  write("A.jq", "[]");
  write("three.effects.json", "[]");
  write("four.event.json", R"({"typ": "A"})");
  write("five.event.json", R"({"type": "Other"})");
  write("five.effects.json", R"([{"Log": {"level": "info", "message": "m"}}])");
  write("one.effects.json", "[");
  finished = attempt({"--golden", golden});
  EXPECT_EQ(finished.exit_code, 1);
  for (const char* line :
       {"FAILED four\nthe event's key \"typ\" is unknown; there is type, payload,",
        "FAILED five\nno handler handles type \"Other\"\n- expected, + given\n",
        "FAILED one\none.effects.json is not JSON: ", "FAILED three\nthree.event.json is missing\n",
        "1 passed, 4 failed\n"})
    EXPECT_NE(finished.output.find(line), std::string::npos) << line << "\n" << finished.output;
}

TEST_F(TryTest, WithoutAnythingToTryItSaysWhatToWrite) {
  write("A.jq", "[]");
  Finished finished = attempt({});
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_EQ(finished.errors,
            "spillway: try: name an event with --event ID, or write one with --type TYPE --payload "
            "JSON, or a folder of them with --golden DIR\n");
  finished = attempt({"--golden", folder.string()});
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_EQ(finished.errors, "spillway: --golden " + folder.string() +
                                 ": has no events; write one as NAME.event.json, e.g. {\"type\": "
                                 "\"CommentAdded\", \"payload\": {}}\n");
}

TEST(LineDiff, ShowsWhatWentAndWhatCameWithALittleAround) {
  EXPECT_EQ(line_diff("a\nb\n", "a\nb\n"), "");
  EXPECT_EQ(line_diff("a\nb\nc\n", "a\nx\nc\n"), "  a\n- b\n+ x\n  c\n");
  EXPECT_EQ(line_diff("", "a\n"), "+ a\n");
  EXPECT_EQ(line_diff("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n"), "  …\n  4\n  5\n- 6\n");
}

}  // namespace
}  // namespace spillway::test
