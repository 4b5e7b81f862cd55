#include "processor/replay_guard.hpp"

#include "processor/queue_store.hpp"

namespace spillway {

ReplayGuard::ReplayGuard(const PgTarget& target, std::int64_t replay_id, const std::string& run_by)
    : connection_(target) {
  ReplayStore store(connection_);
  const std::string key = std::to_string(replay_lock_class) + ", " + std::to_string(replay_id);
  connection_.exec("BEGIN ISOLATION LEVEL READ COMMITTED");
  connection_.exec("SET LOCAL idle_in_transaction_session_timeout = 0");
  if (connection_.exec("SELECT pg_try_advisory_xact_lock(" + key + ")").boolean(0, 0)) {
    PgConnection other(target);  // this one must not get an xid
    ReplayStore(other).take(replay_id, run_by);
    return;
  }
  const ReplayState state = store.read(replay_id);
  throw ReplayHeld("replay \"" + state.name + "\" is being run by " +
                   (state.run_by.empty() ? "another process" : state.run_by));
}

}  // namespace spillway
