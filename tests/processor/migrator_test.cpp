#include "processor/migrator.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

// Numbers may be missing between them.
std::size_t all_migrations(PgConnection& session) {
  return list_migrations(session).size();
}

TEST(Migrator, BringsAnEmptyDatabaseUpAndThenHasNothingToDo) {
  Database database(false);
  PgConnection session(database.target());
  EXPECT_EQ(schema_version(session), 0);
  EXPECT_THROW(check_schema_version(session), SchemaVersionError);
  EXPECT_EQ(migrate(session).size(), all_migrations(session));
  EXPECT_EQ(schema_version(session), newest_schema_version());
  EXPECT_NO_THROW(check_schema_version(session));
  EXPECT_TRUE(migrate(session).empty());
  for (const Migration& migration : list_migrations(session)) EXPECT_TRUE(migration.applied);
}

TEST(Migrator, ManyAtOnceApplyEachMigrationOnce) {
  Database database(false);
  std::atomic<std::size_t> applied{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([&] {
        PgConnection session(database.target());
        applied += migrate(session).size();
      });
  }
  PgConnection session(database.target());
  EXPECT_EQ(applied, all_migrations(session));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.migrations"),
            static_cast<long long>(all_migrations(session)));
}

TEST(Migrator, AFailedMigrationLeavesNothingBehind) {
  Database database(false);
  // In the way of the second file.
  database.query("CREATE SCHEMA spillway; CREATE TABLE spillway.queue (x int)");
  PgConnection session(database.target());
  EXPECT_THROW(migrate(session), SqlError);
  EXPECT_EQ(schema_version(session), 1);
  database.query("DROP TABLE spillway.queue");
  EXPECT_EQ(migrate(session).size(), all_migrations(session) - 1);
}

TEST(Migrator, ANewerSchemaIsRefused) {
  Database database;
  database.query(
      "INSERT INTO spillway.migrations (version, name) VALUES (9999, 'from the future')");
  PgConnection session(database.target());
  EXPECT_THROW(check_schema_version(session), SchemaVersionError);
  EXPECT_THROW(migrate(session), SchemaVersionError);
}

}  // namespace
}  // namespace spillway
