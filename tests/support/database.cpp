#include "tests/support/database.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "processor/migrator.hpp"

namespace spillway::test {
namespace fs = std::filesystem;
namespace {

constexpr const char* template_name = "spillway_template";

class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "spillway-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    folder_ = pattern;
    // PostgreSQL may have to run as another user than the tests.
    fs::permissions(folder_, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec |
                                 fs::perms::group_read | fs::perms::others_read);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& folder() const { return folder_; }

 private:
  fs::path folder_;
};

struct Server {
  PrivatePostgres postgres{scratch_folder() / "server"};
  Server() {
    postgres.start(server_settings());
    PgConnection admin({postgres.url("postgres")});
    admin.exec(std::string("CREATE DATABASE ") + template_name);
    PgConnection connection({postgres.url(template_name)});
    migrate(connection);
  }
  ~Server() {
    try {
      postgres.stop("immediate");
    } catch (const std::exception&) {  // nothing more can be done at the end of a test program
    }
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
};

}  // namespace

const fs::path& scratch_folder() {
  static const Scratch scratch;
  return scratch.folder();
}

const std::vector<std::string>& server_settings() {
  // A killed process loses nothing without fsync; only a killed machine would.
  static const std::vector<std::string> settings{"fsync = off", "max_connections = 200",
                                                 "max_prepared_transactions = 20",
                                                 "autovacuum_naptime = '5s'"};
  return settings;
}

PrivatePostgres& server() {
  static Server instance;
  return instance.postgres;
}

Database::Database(bool migrated) {
  static std::atomic<int> numbers{0};
  name_ = "test_" + std::to_string(++numbers);
  PgConnection admin({server().url("postgres")});
  admin.exec("CREATE DATABASE " + name_ +
             (migrated ? std::string(" TEMPLATE ") + template_name : ""));
  url_ = server().url(name_);
}

Database::~Database() {
  connection_.reset();
  try {
    PgConnection admin({server().url("postgres")});
    admin.exec("DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)");
  } catch (const std::exception&) {  // the whole server goes away soon
  }
}

Rows Database::query(const std::string& sql) {
  if (!connection_ || connection_->lost()) connection_ = std::make_unique<PgConnection>(target());
  return connection_->exec(sql);
}

std::string Database::value(const std::string& sql) {
  const Rows rows = query(sql);
  return rows.empty() || rows.is_null(0, 0) ? "" : rows.string(0, 0);
}

long long Database::number(const std::string& sql) {
  return std::stoll(value(sql));
}

bool drained(Database& database) {
  return database.value(
             "SELECT NOT EXISTS (SELECT FROM spillway.queue) AND NOT EXISTS (SELECT FROM "
             "spillway.ranked) AND NOT EXISTS (SELECT FROM "
             "spillway.waiting) AND NOT EXISTS (SELECT FROM spillway.scheduled)") == "t";
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
