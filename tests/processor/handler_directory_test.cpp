#include "processor/handler_directory.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "processor/handler_error.hpp"
#include "processor/load_handlers.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class HandlerDirectoryTest : public testing::Test {
 protected:
  HandlerDirectoryTest() {
    folder = test::scratch_folder() /
             testing::UnitTest::GetInstance()->current_test_info()->name() / "handlers";
    std::filesystem::create_directories(folder);
  }

  std::string write(const std::string& name, const std::string& text) {
    const auto file = folder / name;
    std::ofstream(file) << text;
    return file.string();
  }

  std::string load_error() {
    try {
      static_cast<void>(load_handlers({folder.string()}));
    } catch (const HandlerError& error) {
      return error.what();
    }
    return "no error";
  }

  std::string check_error(const Database& database) {
    PgConnection session(database.target());
    try {
      check_reads(*load_handlers({folder.string()}), session);
    } catch (const HandlerError& error) {
      return error.what();
    }
    EXPECT_EQ(session.exec("SELECT count(*) FROM items").string(0, 0), "0");  // no transaction left
    return "no error";
  }

  std::filesystem::path folder;
};

TEST_F(HandlerDirectoryTest, AFileHandlesTheTypeItIsNamedAfterAndAStarEveryType) {
  const std::string added = write("Item Added.jq", R"([{KVDelete: {key: "added"}}])");
  write("*.jq", R"([{KVDelete: {key: "all"}}])");
  write("README.md", "nothing to run");
  write("Case.event.json", "{");
  write(".Hidden.jq", "]");
  std::filesystem::create_directory(folder / "Folder.jq");
  Registry registry;
  load_handler_directory(folder.string(), registry);
  EXPECT_EQ(registry.types(), (std::vector<std::string>{"*", "Item Added"}));
  const Registration& one = registry.find("Item Added")->at(0);
  EXPECT_EQ(one.handler(Event{}).effects, (Effects{KVDelete{"added"}}));
  EXPECT_EQ(one.origin, added);
  EXPECT_EQ(one.reads, "");
  EXPECT_EQ(registry.find("*")->at(0).handler(Event{}).effects, (Effects{KVDelete{"all"}}));
}

TEST_F(HandlerDirectoryTest, TheSqlFileBesideIsWhatTheHandlerReads) {
  write("A.jq", "[]");
  write("A.sql", "SELECT 1 AS one");
  write("B.jq", "[]");
  Registry registry;
  load_handler_directory(folder.string(), registry);
  EXPECT_EQ(registry.find("A")->at(0).reads, "SELECT 1 AS one");
  EXPECT_EQ(registry.find("B")->at(0).reads, "");
}

TEST_F(HandlerDirectoryTest, WhatIsWrongIsSaidWithTheFile) {
  EXPECT_EQ(load_error(),
            "--handlers " + folder.string() +
                ": has no handlers in it; write one as Type.jq, e.g. CommentAdded.jq");
  const std::string read = write("A.sql", "SELECT 1");
  EXPECT_EQ(load_error(), "--handlers " + read +
                              ": nothing uses these rows; write A.jq beside it, or take it away");
  const std::string program = write("A.jq", "[]\n|| []");
  EXPECT_EQ(load_error(), "--handlers " + program + ": line 2: syntax error, unexpected '|'");
  write("A.jq", "[]");
  write("A.sql", "\n ; \n");
  EXPECT_EQ(load_error(),
            "--handlers " + read + ": is empty; write one SELECT that may use `event` (jsonb)");
}

TEST_F(HandlerDirectoryTest, DirectoriesAndLibrariesComeTogetherInTheOrderGiven) {
  const std::string file = write("Good.jq", R"([{KVDelete: {key: "jq"}}])");
  const auto origins = [](const Registry& registry) {
    std::vector<std::string> names;
    for (const Registration& one : *registry.find("Good")) names.push_back(one.origin);
    return names;
  };
  EXPECT_EQ(origins(*load_handlers({folder.string(), GOOD_HANDLERS})),
            (std::vector<std::string>{file, GOOD_HANDLERS}));
  EXPECT_EQ(origins(*load_handlers({GOOD_HANDLERS, folder.string()})),
            (std::vector<std::string>{GOOD_HANDLERS, file}));
}

TEST_F(HandlerDirectoryTest, AReadThatDoesNotPrepareIsNamed) {
  Database database;
  database.query("CREATE TABLE items (id text, title text)");
  write("A.jq", "[]");
  const std::string read = write(
      "A.sql", "SELECT title FROM items WHERE id = event->'payload'->>'id'  -- the item\n;\n");
  EXPECT_EQ(check_error(database), "no error");
  const std::string begin = "--handlers " + read +
                            ": the read of \"A\" must be one SELECT that may use `event` (jsonb): ";
  write("A.sql", "SELECT colour FROM items");
  EXPECT_EQ(check_error(database), begin + "column \"colour\" does not exist");
  write("A.sql", "DELETE FROM items");
  EXPECT_EQ(check_error(database), begin + "syntax error at or near \"FROM\"");
  write("A.sql", "SELECT 1; SELECT 2");
  EXPECT_EQ(check_error(database), begin + "syntax error at or near \";\"");
}

}  // namespace
}  // namespace spillway
