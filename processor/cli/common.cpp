#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "processor/cli/commands.hpp"
#include "processor/migrator.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {

void add_common(CLI::App& command, Common& common) {
  command.add_option("--database-url", common.database_url,
                     "Connection URL or string; else DATABASE_URL, libpq's PG* variables, or the "
                     "database of `spillway dev` in ./.spillway");
  command
      .add_option("--pooler", common.pooler,
                  "What stands before the database: auto finds out; none (or one in session mode); "
                  "transaction (PgBouncer in transaction mode)")
      ->check(CLI::IsMember({"auto", "none", "transaction"}))
      ->capture_default_str();
  command.add_option("--direct-url", common.direct_url,
                     "Connection past the pooler, for LISTEN and migrations; without it, streams "
                     "and workers poll once a second");
  command.add_option("--config", common.config, "Options from a TOML file");
}

PgTarget target_of(const Common& common, const std::string& name) {
  const auto variable = [](const char* key) {
    const char* value = std::getenv(key);  // NOLINT(concurrency-mt-unsafe): before threads
    return std::string(value == nullptr ? "" : value);
  };
  PgTarget target{common.database_url, name};
  target.pooler = common.pooler == "none"          ? Pooler::none
                  : common.pooler == "transaction" ? Pooler::transaction
                                                   : Pooler::automatic;
  target.direct_url = common.direct_url;
  if (target.url.empty()) target.url = variable("DATABASE_URL");
  if (!target.url.empty()) return target;
  for (const char* key : {"PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT"})
    if (!variable(key).empty()) return target;
  std::ifstream file(".spillway/database_url");
  std::getline(file, target.url);
  return target;
}

void check_database(const PgTarget& target) {
  PgConnection connection(target);
  check_schema_version(connection);
}

std::chrono::milliseconds parse_duration(const std::string& text, const std::string& option) {
  double number = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end.ptr, text.data() + text.size());
  const double factor = unit.empty() || unit == "s" ? 1e3
                        : unit == "ms"              ? 1
                        : unit == "m"               ? 60e3
                        : unit == "h"               ? 3600e3
                        : unit == "d"               ? 86400e3
                        : unit == "w"               ? 7 * 86400e3
                                                    : 0;
  if (end.ec != std::errc{} || factor == 0 || number < 0 || number * factor > 1e13)
    throw ConfigurationError(option + " " + text +
                             ": write a duration such as 500ms, 10s, 2m, 1h, 30d or 2w");
  return std::chrono::milliseconds(static_cast<long long>(number * factor));
}

std::optional<std::chrono::milliseconds> parse_age(const std::string& text,
                                                   const std::string& option) {
  if (text == "forever") return std::nullopt;
  std::chrono::milliseconds age{0};
  if (!text.empty() && std::isalpha(static_cast<unsigned char>(text.back())) != 0)
    age = parse_duration(text, option);
  if (age.count() < 1)
    throw ConfigurationError(option + " " + text +
                             ": write an age with its unit, such as 30d, 12h or 90m");
  return age;
}

std::string shell_quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\' || c == '$' || c == '`') quoted += '\\';
    quoted += c;
  }
  return quoted += '"';
}

}  // namespace spillway::cli
