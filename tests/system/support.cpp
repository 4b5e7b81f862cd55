#include "tests/system/support.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

namespace spillway::test {

std::string test_handlers() {
  return TEST_HANDLERS;
}
std::string test_handlers_of_another_version() {
  return TEST_HANDLERS_OF_ANOTHER_VERSION;
}
std::string test_no_handlers() {
  return TEST_NO_HANDLERS;
}
std::string example_schema() {
  return EXAMPLE_SCHEMA;
}

void load_example(Database& database) {
  std::ifstream file(EXAMPLE_SCHEMA);
  std::stringstream text;
  text << file.rdbuf();
  database.query(text.str());
}

std::uint64_t printed_seed() {
  const char* given = std::getenv("SPILLWAY_TEST_SEED");  // NOLINT(concurrency-mt-unsafe)
  const std::uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device{}();
  std::cout << "[   seed   ] SPILLWAY_TEST_SEED=" << seed << std::endl;
  return seed;
}

bool drained(Database& database) {
  return database.value(
             "SELECT NOT EXISTS (SELECT FROM spillway.queue) AND NOT EXISTS (SELECT FROM "
             "spillway.ranked) AND NOT EXISTS (SELECT FROM spillway.waiting) AND NOT EXISTS "
             "(SELECT FROM spillway.scheduled)") == "t";
}

Refusal refusal_of(SqlSession& session, const std::string& sql) {
  try {
    session.exec(sql);
  } catch (const SqlError& error) {
    return {error.sqlstate(), error.what()};
  }
  return {};
}

std::string url_as(const Database& database, const std::string& user) {
  std::string url = database.url();
  const std::string server_user = "user=postgres";
  url.replace(url.find(server_user), server_user.size(), "user=" + user);
  return url;
}

std::string sql_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += '\'';
    quoted += c;
  }
  return quoted += '\'';
}

}  // namespace spillway::test
