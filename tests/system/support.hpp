// What system tests share. One thread each, unless said otherwise.
#pragma once

#include <string>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/insist.hpp"
#include "tests/support/process.hpp"
#include "tests/support/seed.hpp"
#include "tests/support/sse_client.hpp"

namespace spillway::test {

std::string test_handlers();                     // handlers.cpp: does what the payload says
std::string test_handlers_of_another_version();  // the same, with another layout version
std::string test_no_handlers();                  // a shared library without handlers
std::string example_schema();                    // examples/comments/schema.sql

void load_example(Database& database);

// What the server said to a statement that it refused; empty when it did not.
struct Refusal {
  std::string sqlstate;
  std::string message;
};
Refusal refusal_of(SqlSession& session, const std::string& sql);

// A session on the database, as another user if one is named.
std::string url_as(const Database& database, const std::string& user);

}  // namespace spillway::test
