// The commands of the binary. Each adds itself to the application and leaves what it would do in
// `action`, which returns the exit code or throws (see cli.cpp for what each exception means).
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "processor/pg_connection.hpp"

namespace spillway::cli {

using Action = std::function<int()>;

void add_run(CLI::App& app, Action& action);
void add_dead(CLI::App& app, Action& action);
void add_dev(CLI::App& app, Action& action);
void add_migrate(CLI::App& app, Action& action);
void add_enqueue(CLI::App& app, Action& action);
void add_replay(CLI::App& app, Action& action);
void add_status(CLI::App& app, Action& action);
void add_prune(CLI::App& app, Action& action);
void add_tail(CLI::App& app, Action& action);
void add_trace(CLI::App& app, Action& action);
void add_try(CLI::App& app, Action& action);
void add_token(CLI::App& app, Action& action);

// --database-url, --config; every command has them.
struct Common {
  std::string database_url;
  std::string pooler = "auto";
  std::string direct_url;
  std::string config;
};
void add_common(CLI::App& command, Common& common);

// --database-url, DATABASE_URL, libpq's PG* variables, or the private PostgreSQL that `spillway
// dev` keeps in ./.spillway; in that order. `name` shows in pg_stat_activity.
[[nodiscard]] PgTarget target_of(const Common& common, const std::string& name);

// Opens a connection and checks the schema's version.
void check_database(const PgTarget& target);

// A validator that reads "10s", "500ms", "2m", "1h", "30d", "2w" or bare seconds into milliseconds.
[[nodiscard]] std::chrono::milliseconds parse_duration(const std::string& text,
                                                       const std::string& option);

// The same for how long something is kept: needs a unit, more than nothing, and "forever" is none.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_age(const std::string& text,
                                                                 const std::string& option);

// Text for a double-quoted word of a POSIX shell.
[[nodiscard]] std::string shell_quoted(const std::string& text);

}  // namespace spillway::cli
