#include "processor/migrator.hpp"

#include <algorithm>
#include <string_view>

#include "processor/embedded_file.hpp"
#include "processor/schema_change.hpp"

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

// Applies one file, unless it is applied; true if it did. In a transaction of its own.
bool apply(SqlSession& session, const EmbeddedFile& file,
           const std::function<void(const std::string&)>& log) {
  bool fresh = false;
  change_schema(session, "migration " + name_of(file), log, [&] {
    session.exec(
        "CREATE SCHEMA IF NOT EXISTS spillway;"
        "CREATE TABLE IF NOT EXISTS spillway.migrations (version int PRIMARY KEY, name text NOT "
        "NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())");
    const int version = schema_version(session);
    if (version > newest_schema_version()) throw newer_than_binary(version);
    fresh = version < version_of(file);
    if (!fresh) return;
    own_every_lane(session);
    session.exec(std::string(file.text));
    session.run({"", "INSERT INTO spillway.migrations (version, name) VALUES ($1::int, $2)"},
                {std::to_string(version_of(file)).c_str(), name_of(file).c_str()});
  });
  return fresh;
}

}  // namespace

SchemaVersionError newer_than_binary(int version) {
  return SchemaVersionError("the database's schema has version " + std::to_string(version) +
                            ", this spillway knows only " +
                            std::to_string(newest_schema_version()) + ": run the newer spillway");
}

int newest_schema_version() {
  return version_of(migrations::files[migrations::files_count - 1]);
}

int schema_version(SqlSession& session) {
  if (session.exec("SELECT to_regclass('spillway.migrations')").is_null(0, 0)) return 0;
  return session.exec("SELECT coalesce(max(version), 0) FROM spillway.migrations")
      .integer<int>(0, 0);
}

std::vector<Migration> list_migrations(SqlSession& session) {
  std::vector<Migration> all;
  for (std::size_t i = 0; i < migrations::files_count; ++i)
    all.push_back({version_of(migrations::files[i]), name_of(migrations::files[i]), false, {}});
  if (schema_version(session) == 0) return all;
  const Rows rows = session.exec(
      "SELECT version, name, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || 'Z'"
      " FROM spillway.migrations ORDER BY version");
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const Migration applied{rows.integer<int>(row, 0), rows.string(row, 1), true,
                            rows.string(row, 2)};
    const auto known = std::find_if(all.begin(), all.end(), [&](const Migration& migration) {
      return migration.version == applied.version;
    });
    if (known == all.end())
      all.push_back(applied);
    else
      *known = applied;
  }
  return all;
}

std::vector<std::string> migrate(SqlSession& session,
                                 const std::function<void(const std::string&)>& log, int up_to) {
  std::vector<std::string> applied;
  for (std::size_t i = 0; i < migrations::files_count; ++i) {
    const EmbeddedFile& file = migrations::files[i];
    if (version_of(file) > up_to) break;
    if (apply(session, file, log)) applied.push_back(name_of(file));
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
