// Brings the schema `spillway` to the version of this binary. The migrations are the numbered files
// of migrations/, compiled in; each runs once, in a transaction, under a lock that makes it safe
// for many processes to start at once.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "effects/sql.hpp"

namespace spillway {

// The database's schema is not the binary's: exit code 4. The message says what to do.
class SchemaVersionError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[nodiscard]] int newest_schema_version();

// The version the database is at; 0 when it has no schema of ours.
[[nodiscard]] int schema_version(SqlSession& session);

struct Migration {
  int version = 0;
  std::string name;  // the file's, without number and ending
  bool applied = false;
  std::string applied_at;  // UTC; empty when it is not
};
// Those of this binary, and those that a newer one has applied.
[[nodiscard]] std::vector<Migration> list_migrations(SqlSession& session);

// Returns the names of what it applied. Throws SchemaVersionError when the database is newer.
// A migration first waits for the batches in hand and keeps workers from the next. When it waits
// too long for a lock, or two wait for each other, it is rolled back and tried again a few times;
// `log` hears of it. `up_to`: the last version to apply, for tests.
std::vector<std::string> migrate(SqlSession& session,
                                 const std::function<void(const std::string&)>& log = {},
                                 int up_to = newest_schema_version());

// What to say, and throw, when the database is at `version`.
[[nodiscard]] SchemaVersionError newer_than_binary(int version);

// Throws SchemaVersionError unless the versions are the same.
void check_schema_version(SqlSession& session);

}  // namespace spillway
