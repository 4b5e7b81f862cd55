#include "tests/system/support.hpp"

#include <gtest/gtest.h>

#include <fstream>
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

}  // namespace spillway::test
