// What system tests share. One thread each, unless said otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/process.hpp"
#include "tests/support/sse_client.hpp"

namespace spillway::test {

std::string test_handlers();                     // handlers.cpp: does what the payload says
std::string test_handlers_of_another_version();  // the same, with another layout version
std::string test_no_handlers();                  // a shared library without handlers
std::string example_schema();                    // examples/comments/schema.sql

void load_example(Database& database);

// A generator whose seed is printed; SPILLWAY_TEST_SEED repeats a run.
std::uint64_t printed_seed();

// Nothing is queued, waits or is scheduled.
bool drained(Database& database);

// What the server said to a statement that it refused; empty when it did not.
struct Refusal {
  std::string sqlstate;
  std::string message;
};
Refusal refusal_of(SqlSession& session, const std::string& sql);

// A session on the database, as another user if one is named.
std::string url_as(const Database& database, const std::string& user);

// The payload of an event for test_handlers(), as an SQL literal.
std::string sql_quoted(const std::string& text);

// Runs `work` again when the connection is lost, until the database is back.
template <typename Work>
auto insist(Work&& work) -> decltype(work()) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (;;) {
    try {
      return work();
    } catch (const ConnectionLost&) {
      if (std::chrono::steady_clock::now() > deadline) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

}  // namespace spillway::test
