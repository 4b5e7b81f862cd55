// A real PostgreSQL for tests: one private server per test program, a fresh database per test,
// cloned from a migrated template.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "processor/pg_connection.hpp"
#include "processor/private_postgres.hpp"

namespace spillway {
inline constexpr int lane_count = 8;  // of a new database
}

namespace spillway::test {

// The server of this test program; started on first use, stopped and removed at its end.
PrivatePostgres& server();

// What it was started with: start() after a stop() needs it again.
const std::vector<std::string>& server_settings();

// A folder that goes away with the test program.
const std::filesystem::path& scratch_folder();

class Database {
 public:
  // `migrated`: with the schema, else empty.
  explicit Database(bool migrated = true);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] PgTarget target() const { return {url_, "spillway-test"}; }

  // On a connection of its own, which is made anew when it was lost.
  Rows query(const std::string& sql);
  // First column of the first row; "" for null or nothing.
  std::string value(const std::string& sql);
  long long number(const std::string& sql);

 private:
  std::string name_;
  std::string url_;
  std::unique_ptr<PgConnection> connection_;
};

// Nothing is queued, waits or is scheduled.
bool drained(Database& database);

// Text as an SQL literal.
std::string sql_quoted(const std::string& text);

}  // namespace spillway::test
