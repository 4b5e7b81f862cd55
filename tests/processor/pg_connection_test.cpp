#include "processor/pg_connection.hpp"

#include <gtest/gtest.h>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;

TEST(PgConnection, ParametersAndNulls) {
  Database database(false);
  PgConnection connection(database.target());
  const Rows rows = connection.run({"two", "SELECT $1::text, $2::int"}, {"a'b", nullptr});
  EXPECT_EQ(rows.text(0, 0), "a'b");
  EXPECT_TRUE(rows.is_null(0, 1));
  EXPECT_EQ(connection.run({"two", "SELECT $1::text, $2::int"}, {"x", "7"}).integer<int>(0, 1), 7);
}

TEST(PgConnection, ErrorsCarryTheSqlstateAndOneLine) {
  Database database(false);
  PgConnection connection(database.target());
  try {
    connection.exec("SELECT nothing_like_it FROM pg_class");
    FAIL();
  } catch (const SqlError& error) {
    EXPECT_EQ(error.sqlstate(), "42703");
    EXPECT_STREQ(error.what(), "column \"nothing_like_it\" does not exist");
  }
  EXPECT_EQ(connection.exec("SELECT 1").integer(0, 0), 1);  // and it goes on
}

TEST(PgConnection, ALostConnectionStaysLost) {
  Database database(false);
  PgConnection connection(database.target());
  const int pid = connection.backend_pid();
  database.query("SELECT pg_terminate_backend(" + std::to_string(pid) + ")");
  EXPECT_THROW(connection.exec("SELECT 1"), ConnectionLost);
  EXPECT_TRUE(connection.lost());
  // libpqxx 6 would answer this from a new backend, outside of whatever transaction there was.
  EXPECT_THROW(connection.exec("SELECT 1"), ConnectionLost);
  EXPECT_THROW(connection.run({"p", "SELECT 1"}), ConnectionLost);
}

TEST(PgConnection, NotificationsArrive) {
  Database database(false);
  PgConnection connection(database.target());
  int heard = 0;
  connection.listen("bell", [&] { ++heard; });
  database.query("NOTIFY bell");
  EXPECT_TRUE(test::eventually([&] {
    connection.poll_notifications();
    return heard == 1;
  }));
  EXPECT_EQ(connection.exec("SELECT 1").integer(0, 0), 1);
}

TEST(PgConnection, AnUnreachableServerIsNamedWithoutItsPassword) {
  try {
    PgConnection connection({"postgresql://joe:hunter2@127.0.0.1:1/db?connect_timeout=1"});
    FAIL();
  } catch (const ConnectionLost& error) {
    EXPECT_EQ(std::string(error.what()).find("hunter2"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("127.0.0.1"), std::string::npos) << error.what();
  }
}

TEST(HidePassword, InUrlsAndWords) {
  EXPECT_EQ(hide_password("postgresql://joe:s3cret@host/db"), "postgresql://joe:***@host/db");
  EXPECT_EQ(hide_password("host=h password=s3cret user=u"), "host=h password=*** user=u");
  EXPECT_EQ(hide_password("password = 's3 cret' x"), "password = *** x");
  EXPECT_EQ(hide_password("postgresql:///db?password=s3cret&x=1"),
            "postgresql:///db?password=***&x=1");
  EXPECT_EQ(hide_password("nothing to hide"), "nothing to hide");
}

TEST(OneLineMessage, KeepsMessageAndDetail) {
  EXPECT_EQ(one_line_message("ERROR:  duplicate key\nDETAIL:  Key (a)=(1) already exists.\n"),
            "duplicate key; Key (a)=(1) already exists.");
  EXPECT_EQ(
      one_line_message("FEHLER:  Spalte fehlt\nLINE 1: SELECT x\n               ^\nHINT:  y\n"),
      "Spalte fehlt");
  EXPECT_EQ(one_line_message("could not connect\n\tIs the server running?\n"),
            "could not connect; Is the server running?");
}

}  // namespace
}  // namespace spillway
