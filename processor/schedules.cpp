#include "processor/schedules.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace spillway {
namespace {

using std::chrono::milliseconds;

// Milliseconds until the next tick, rounded up so that it is due by then. OFFSET 0: the clock is
// read after the run.
const Statement run_sql{"sw_run_schedules", R"(
SELECT ceil(1000 * extract(epoch FROM next_at - clock_timestamp()))::bigint
FROM (SELECT spillway.run_schedules() AS next_at OFFSET 0) r)"};

const Statement failing_sql{"sw_failing_schedules", R"(
SELECT name, last_error FROM spillway.schedules WHERE last_error IS NOT NULL
ORDER BY name LIMIT 100)"};

using Failures = std::map<std::string, std::string>;

Failures failing(SqlSession& session) {
  Failures failures;
  const Rows rows = session.run(failing_sql);
  for (std::size_t row = 0; row < rows.size(); ++row)
    failures.emplace(rows.string(row, 0), rows.string(row, 1));
  return failures;
}

}  // namespace

std::vector<MaintenanceTask> schedule_upkeep(std::function<void(const std::string&)> log) {
  const auto run = [log = std::move(log), reported = Failures()](
                       SqlSession& session) mutable -> std::optional<milliseconds> {
    const Rows rows = session.run(run_sql);
    Failures failures = failing(session);
    for (const auto& [name, error] : failures) {
      const auto known = reported.find(name);
      if (known != reported.end() && known->second == error) continue;
      log(std::string("schedule \"").append(name).append("\": ").append(error));
    }
    reported = std::move(failures);
    if (rows.is_null(0, 0)) return std::nullopt;
    return milliseconds(std::max<std::int64_t>(0, rows.integer(0, 0)));
  };
  return {{"running schedules", milliseconds(1000), run}};
}

}  // namespace spillway
