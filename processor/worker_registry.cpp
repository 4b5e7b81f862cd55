#include "processor/worker_registry.hpp"

#include <unistd.h>

#include <array>

#include "spillway/version.hpp"

namespace spillway {
namespace {

// Row and lock in one statement: when the row can be seen, the lock is held.
const Statement enter_sql{"sw_enter", R"(
WITH fresh AS (
  INSERT INTO spillway.workers (host, pid, runners, most_events, serves_streams, version, pooled)
  VALUES ($1, $2::int, $3::int, $4::int, $5::bool, $6, $7::bool)
  RETURNING id, pooled)
SELECT id, CASE WHEN NOT pooled
           THEN pg_advisory_lock_shared($8::int, spillway.worker_lock_key(id))::text END
FROM fresh)"};

const Statement enter_again_sql{"sw_enter_again", R"(
INSERT INTO spillway.workers (id, host, pid, runners, most_events, serves_streams, version, pooled)
OVERRIDING SYSTEM VALUE
VALUES ($8::bigint, $1, $2::int, $3::int, $4::int, $5::bool, $6, $7::bool)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), pooled = excluded.pooled)"};

const Statement lock_sql{"sw_worker_lock",
                         "SELECT pg_advisory_lock_shared($1::int, spillway.worker_lock_key($2))"};

const Statement beat_sql{"sw_beat",
                         "UPDATE spillway.workers SET seen_at = clock_timestamp() WHERE id = $1"};

const Statement leave_sql{"sw_leave", "DELETE FROM spillway.workers WHERE id = $1"};

const Statement count_sql{"sw_count_live", R"(
WITH live AS MATERIALIZED (SELECT * FROM spillway.live_workers),
tails AS (
  SELECT count(*) AS count FROM pg_catalog.pg_locks
  WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND classid = $1::int::oid AND objid = 0
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
SELECT count(*) FILTER (WHERE runners > 0), coalesce(sum(runners), 0),
       count(*) FILTER (WHERE serves_streams) + (SELECT count FROM tails),
       count(*) FILTER (WHERE serves_streams AND id <> $2::bigint) + (SELECT count FROM tails),
       (SELECT max(version) FROM spillway.migrations)
FROM live)"};

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

}  // namespace

std::int64_t WorkerRegistry::enter(const WorkerDescription& worker, std::int64_t id) {
  const std::string host = host_name();
  const std::string pid = std::to_string(getpid());
  const std::string runners = std::to_string(worker.runners);
  const std::string most_events = std::to_string(worker.most_events);
  const char* streams = worker.serves_streams ? "true" : "false";
  const char* pooled = pooled_ ? "true" : "false";
  const std::string lock_class = std::to_string(worker_lock_class);
  if (id == 0)
    return session_
        .run(enter_sql, {host.c_str(), pid.c_str(), runners.c_str(), most_events.c_str(), streams,
                         SPILLWAY_VERSION, pooled, lock_class.c_str()})
        .integer(0, 0);
  const std::string own = std::to_string(id);
  if (!pooled_) session_.run(lock_sql, {lock_class.c_str(), own.c_str()});
  session_.run(enter_again_sql, {host.c_str(), pid.c_str(), runners.c_str(), most_events.c_str(),
                                 streams, SPILLWAY_VERSION, pooled, own.c_str()});
  return id;
}

bool WorkerRegistry::beat(std::int64_t id) {
  return session_.run(beat_sql, {std::to_string(id).c_str()}).affected() > 0;
}

void WorkerRegistry::leave(std::int64_t id) {
  session_.run(leave_sql, {std::to_string(id).c_str()});
}

LiveWorkers WorkerRegistry::count(std::int64_t own_id) {
  const Rows rows = session_.run(
      count_sql, {std::to_string(worker_lock_class).c_str(), std::to_string(own_id).c_str()});
  LiveWorkers live;
  live.workers = rows.integer<int>(0, 0);
  live.runners = rows.integer<int>(0, 1);
  live.stream_servers = rows.integer<int>(0, 2);
  live.others_listen = rows.integer<int>(0, 3);
  live.schema_version = rows.integer<int>(0, 4);
  return live;
}

void WorkerRegistry::follow_streams() {
  if (pooled_) return;
  session_.exec("SELECT pg_advisory_lock_shared(" + std::to_string(worker_lock_class) + ", 0)");
}

}  // namespace spillway
