#include "processor/migrator.hpp"

#include <algorithm>
#include <string_view>

#include "processor/embedded_file.hpp"
#include "processor/queue_store.hpp"

namespace spillway {
namespace migrations {
extern const EmbeddedFile files[];
extern const std::size_t files_count;
}  // namespace migrations

namespace {

int version_of(const EmbeddedFile& file) {
  return std::stoi(std::string(file.name.substr(0, 4)));
}

std::string name_of(const EmbeddedFile& file) {
  return std::string(file.name.substr(5, file.name.rfind('.') - 5));
}

SchemaVersionError newer_than_binary(int version) {
  return SchemaVersionError("the database's schema has version " + std::to_string(version) +
                            ", this spillway knows only " +
                            std::to_string(newest_schema_version()) + ": run the newer spillway");
}

}  // namespace

int newest_schema_version() {
  return version_of(migrations::files[migrations::files_count - 1]);
}

int schema_version(SqlSession& session) {
  if (session.exec("SELECT to_regclass('spillway.migrations')").is_null(0, 0)) return 0;
  return session.exec("SELECT coalesce(max(version), 0) FROM spillway.migrations")
      .integer<int>(0, 0);
}

std::vector<Migration> list_migrations(SqlSession& session) {
  const int version = schema_version(session);
  std::vector<Migration> all;
  for (std::size_t i = 0; i < migrations::files_count; ++i) {
    const EmbeddedFile& file = migrations::files[i];
    all.push_back({version_of(file), name_of(file), version_of(file) <= version});
  }
  return all;
}

std::vector<std::string> migrate(SqlSession& session) {
  std::vector<std::string> applied;
  for (std::size_t i = 0; i < migrations::files_count; ++i) {
    const EmbeddedFile& file = migrations::files[i];
    session.exec("BEGIN ISOLATION LEVEL READ COMMITTED");
    try {
      // One at a time, whoever comes; also CREATE … IF NOT EXISTS is not safe against its twin.
      session.exec("SELECT pg_advisory_xact_lock(" + std::to_string(migrate_lock_class) + ", 0)");
      session.exec(
          "CREATE SCHEMA IF NOT EXISTS spillway;"
          "CREATE TABLE IF NOT EXISTS spillway.migrations (version int PRIMARY KEY, name text NOT "
          "NULL,"
          " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())");
      const int version = schema_version(session);
      if (version > newest_schema_version()) throw newer_than_binary(version);
      if (version < version_of(file)) {
        session.exec(std::string(file.text));
        const std::string name = name_of(file);
        session.run({"", "INSERT INTO spillway.migrations (version, name) VALUES ($1::int, $2)"},
                    {std::to_string(version_of(file)).c_str(), name.c_str()});
        applied.push_back(name);
      }
      session.exec("COMMIT");
    } catch (const ConnectionLost&) {
      throw;
    } catch (...) {
      session.exec("ROLLBACK");
      throw;
    }
  }
  return applied;
}

void check_schema_version(SqlSession& session) {
  const int version = schema_version(session);
  if (version == newest_schema_version()) return;
  if (version > newest_schema_version()) throw newer_than_binary(version);
  throw SchemaVersionError((version == 0 ? std::string("the database has no spillway schema")
                                         : "the database's schema has version " +
                                               std::to_string(version) + ", this spillway needs " +
                                               std::to_string(newest_schema_version())) +
                           ": run `spillway migrate`, or start with --migrate");
}

}  // namespace spillway
