#include "processor/schema_change.hpp"

#include <chrono>
#include <thread>

#include "processor/backoff.hpp"
#include "processor/queue_store.hpp"
#include "processor/retry_policy.hpp"

namespace spillway {
namespace {

// Writers must not queue up behind a change that itself waits for a long transaction: it gives way
// after this long, and comes again.
constexpr const char* patience = "SET LOCAL lock_timeout = '5s'";
constexpr int most_attempts = 10;

void attempt(SqlSession& session, const std::function<void()>& change) {
  session.exec("BEGIN ISOLATION LEVEL READ COMMITTED");
  try {
    // One at a time, whoever comes; also CREATE … IF NOT EXISTS is not safe against its twin.
    session.exec("SELECT pg_advisory_xact_lock(" + std::to_string(migrate_lock_class) + ", 0)");
    change();
    session.exec("COMMIT");
  } catch (const ConnectionLost&) {
    throw;
  } catch (...) {
    session.exec("ROLLBACK");
    throw;
  }
}

}  // namespace

void change_schema(SqlSession& session, const std::string& what,
                   const std::function<void(const std::string&)>& log,
                   const std::function<void()>& change) {
  Backoff backoff(std::chrono::milliseconds(200), std::chrono::milliseconds(5000));
  for (int number = 1;; ++number) {
    try {
      return attempt(session, change);
    } catch (const SqlError& error) {
      const FailureClass failure = classify(error.sqlstate());
      const bool passes = failure == FailureClass::batch || failure == FailureClass::timeout;
      if (!passes || number == most_attempts) throw;
      if (log)
        log(what + " is in somebody's way, trying again (" + std::to_string(number) + " of " +
            std::to_string(most_attempts) + "): " + error.what());
      std::this_thread::sleep_for(backoff.next());
    }
  }
}

void own_every_lane(SqlSession& session) {
  session.exec(patience);
  session.exec("SELECT pg_advisory_xact_lock(" + std::to_string(lane_lock_class) +
               ", lane) FROM generate_series(0, " + std::to_string(most_lanes - 1) + ") lane");
}

}  // namespace spillway
