#include "processor/pg_pipeline.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class PgPipelineTest : public testing::Test {
 protected:
  // Sends "SELECT number" and notes the answer.
  void ask(int number) {
    session.send({"ask", "SELECT $1::int"}, {std::to_string(number).c_str()},
                 [this](const Rows& rows) { answers.push_back(rows.integer<int>(0, 0)); });
  }
  std::string error_of_finish() {
    try {
      session.finish();
    } catch (const SqlError& error) {
      return error.sqlstate() + " " + error.what();
    }
    return "none";
  }

  Database database{false};
  PgPipeline session{database.target()};
  std::vector<int> answers;
};

TEST_F(PgPipelineTest, AnswersComeInOrderAndOnlyWhenSomebodyWaits) {
  ask(1);
  ask(2);
  EXPECT_TRUE(answers.empty());
  session.finish();
  EXPECT_EQ(answers, (std::vector<int>{1, 2}));
  ask(3);
  EXPECT_EQ(session.run({"other", "SELECT $1::text"}, {"x"}).text(0, 0), "x");
  EXPECT_EQ(answers, (std::vector<int>{1, 2, 3}));
  ask(4);
  EXPECT_EQ(session.exec("SELECT 1; SELECT 7").integer<int>(0, 0), 7);
  EXPECT_EQ(answers, (std::vector<int>{1, 2, 3, 4}));
  session.finish();
  EXPECT_EQ(answers.size(), 4u);
}

TEST_F(PgPipelineTest, ParametersNullsAndArrays) {
  SqlArray texts(SqlArray::Of::texts), numbers(SqlArray::Of::bigints), jsons(SqlArray::Of::jsons);
  texts.add("it's \"quoted\" \\ {x}, NULL");
  texts.add_null();
  texts.add("");
  numbers.add(-5);
  jsons.add(R"({"a": "b\\c"})");
  const Statement statement{"arrays",
                            "SELECT $1::text[], $2::bigint[], $3::json[], $4::text, $5::text[]"};
  SqlArray none(SqlArray::Of::texts);
  const Rows rows = session.run(statement, {texts, numbers, jsons, nullptr, none});
  EXPECT_EQ(rows.text(0, 0), R"({"it's \"quoted\" \\ {x}, NULL",NULL,""})");
  EXPECT_EQ(rows.text(0, 1), "{-5}");
  EXPECT_EQ(rows.text(0, 2), R"({"{\"a\": \"b\\\\c\"}"})");
  EXPECT_TRUE(rows.is_null(0, 3));
  EXPECT_EQ(rows.text(0, 4), "{}");
  // By the session that sends them as text it comes to the same.
  PgConnection plain(database.target());
  const Rows same = plain.run(statement, {texts, numbers, jsons, nullptr, none});
  for (std::size_t column : {0u, 1u, 2u, 4u}) EXPECT_EQ(rows.text(0, column), same.text(0, column));
}

TEST_F(PgPipelineTest, BehindARefusedStatementNothingIsCarriedOut) {
  session.exec("CREATE TABLE t (n int PRIMARY KEY)");
  session.send_exec("BEGIN");
  session.send({"insert", "INSERT INTO t SELECT $1::int"}, {"1"});
  ask(1);
  session.send({"insert", "INSERT INTO t SELECT $1::int"}, {"1"});
  ask(2);
  session.send_exec("COMMIT");
  EXPECT_EQ(error_of_finish(),
            "23505 duplicate key value violates unique constraint \"t_pkey\"; Key (n)=(1) already "
            "exists.");
  EXPECT_EQ(answers, std::vector<int>{1});
  session.exec("ROLLBACK");
  EXPECT_EQ(database.number("SELECT count(*) FROM t"), 0);
  ask(3);
  session.finish();
  EXPECT_EQ(answers.back(), 3);
}

TEST_F(PgPipelineTest, AStatementThatCannotBePreparedIsTriedAnew) {
  const Statement late{"late", "SELECT n FROM late"};
  session.send(late, {});
  EXPECT_EQ(error_of_finish(), "42P01 relation \"late\" does not exist");
  database.query("CREATE TABLE late AS SELECT 5 AS n");
  EXPECT_EQ(session.run(late).integer<int>(0, 0), 5);
  // Nor is one prepared that stood behind an error.
  session.send({"wrong", "SELECT nothing"}, {});
  session.send({"behind", "SELECT 6"}, {});
  EXPECT_EQ(error_of_finish(), "42703 column \"nothing\" does not exist");
  EXPECT_EQ(session.run({"behind", "SELECT 6"}).integer<int>(0, 0), 6);
}

TEST_F(PgPipelineTest, ForgettingGivesThePreparedFormUp) {
  const Statement one{"one", "SELECT 1"};
  session.run(one);
  session.forget(one);
  EXPECT_EQ(session.exec("SELECT count(*) FROM pg_prepared_statements WHERE name = 'one'")
                .integer<int>(0, 0),
            0);
  session.forget(one);
  EXPECT_EQ(session.run(one).integer<int>(0, 0), 1);
}

// More than the buffers of both sides hold, in both directions at once.
TEST_F(PgPipelineTest, MuchIsSentAndAnsweredAtOnce) {
  const std::string much(4u << 20, 'x');
  std::size_t got = 0;
  for (int i = 0; i < 16; ++i)
    session.send({"echo", "SELECT $1::text"}, {much.c_str()},
                 [&](const Rows& rows) { got += rows.text(0, 0).size(); });
  session.finish();
  EXPECT_EQ(got, 16 * much.size());
}

TEST_F(PgPipelineTest, WhatTheServerSaysBesidesIsNotPrinted) {
  testing::internal::CaptureStderr();
  session.exec("DO $$ BEGIN RAISE WARNING 'careful'; END $$");
  session.send_exec("ROLLBACK");  // warns that there is no transaction
  session.finish();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(PgPipelineTest, ALostConnectionIsSaidSoAndCallbacksAreNotCalled) {
  ask(1);
  database.query("SELECT pg_terminate_backend(" + std::to_string(session.backend_pid()) + ")");
  EXPECT_THROW(session.finish(), ConnectionLost);
  EXPECT_TRUE(answers.empty());
  EXPECT_THROW(session.exec("SELECT 1"), ConnectionLost);
}

TEST_F(PgPipelineTest, AServerThatIsNotThereIsAConnectionLostWithoutThePassword) {
  try {
    PgPipeline none({"host=127.0.0.1 port=1 user=u password=secret"});
    FAIL();
  } catch (const ConnectionLost& error) {
    EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("port 1"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace spillway
