// Sees to it that one process at a time runs a replay, and tells a second one who that is.
//
// It holds an advisory lock in a transaction of its own connection, which takes no snapshot and no
// xid, so nothing waits for it and it keeps no row alive; when the process dies, it is free at
// once. It is a courtesy: what a replay's row says is locked and checked by each of its
// transactions. One thread. Errors: ReplayHeld, SqlError, ConnectionLost.
#pragma once

#include <cstdint>
#include <string>

#include "processor/pg_connection.hpp"
#include "processor/replay_store.hpp"

namespace spillway {

class ReplayHeld : public ReplayError {
 public:
  using ReplayError::ReplayError;
};

class ReplayGuard {
 public:
  // `run_by` says who we are, for others.
  ReplayGuard(const PgTarget& target, std::int64_t replay_id, const std::string& run_by);

 private:
  PgConnection connection_;
};

}  // namespace spillway
