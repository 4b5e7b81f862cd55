// The registry of processes, spillway.workers: who runs, with how many runners, and who lives.
//
// A row lives while its process holds an advisory lock on a session of its own; where sessions are
// not its own (a pooler in transaction mode), while it is seen at least every 10 s. One session,
// one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstdint>
#include <string>

#include "effects/sql.hpp"

namespace spillway {

// Class key of the advisory locks (class, spillway.worker_lock_key(id)), held by sessions, shared.
// Key 0: whoever only follows the streams, without a row (`spillway tail`).
inline constexpr int worker_lock_class = 0x53504c4f;

struct WorkerDescription {
  int runners = 0;
  int most_events = 0;  // of one batch
  bool serves_streams = false;
};

struct LiveWorkers {
  int workers = 0;         // that run handlers
  int runners = 0;         // of all of them
  int stream_servers = 0;  // `tail` included
  int others_listen = 0;   // stream servers other than the one that asks
  int schema_version = 0;
};

class WorkerRegistry {
 public:
  // `pooled`: the session is not ours beyond a transaction, so no lock lasts on it.
  WorkerRegistry(SqlSession& session, bool pooled) : session_(session), pooled_(pooled) {}

  // Adds the process's row and returns its id. With the `id` of a row that it had: takes its lock
  // again, and adds the row again if somebody has removed it.
  [[nodiscard]] std::int64_t enter(const WorkerDescription& worker, std::int64_t id = 0);

  // Says that the process lives, where a lock does not. False: the row is gone, enter() again.
  [[nodiscard]] bool beat(std::int64_t id);

  // The process has ended in order.
  void leave(std::int64_t id);

  [[nodiscard]] LiveWorkers count(std::int64_t own_id = 0);

  // Counts as a stream server for as long as the session lasts; without a row.
  void follow_streams();

 private:
  SqlSession& session_;
  bool pooled_;
};

}  // namespace spillway
