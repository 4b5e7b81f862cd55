// Brings the schema `spillway` to the version of this binary. The migrations are the numbered files
// of migrations/, compiled in; each runs once, in a transaction, under a lock that makes it safe
// for many processes to start at once.
#pragma once

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
};
[[nodiscard]] std::vector<Migration> list_migrations(SqlSession& session);

// Returns the names of what it applied. Throws SchemaVersionError when the database is newer.
std::vector<std::string> migrate(SqlSession& session);

// Throws SchemaVersionError unless the versions are the same.
void check_schema_version(SqlSession& session);

}  // namespace spillway
