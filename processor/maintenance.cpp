#include "processor/maintenance.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "processor/backoff.hpp"
#include "processor/presence_store.hpp"
#include "processor/queue_store.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;

// Nobody who could still want them is more than a poll behind.
const Statement drop_old_ephemeral{"sw_drop_old_ephemeral", R"(
DELETE FROM spillway.ephemeral_broadcasts
WHERE created_at < clock_timestamp() - interval '1 minute')"};

const Statement name_latest{"", R"(
INSERT INTO spillway.latest_channels (pattern) SELECT unnest($1::text[])
ON CONFLICT (pattern) DO UPDATE SET seen_at = clock_timestamp())"};

const Statement drop_expired_keys{"sw_drop_expired_keys", R"(
DELETE FROM spillway.kv WHERE key IN (
  SELECT key FROM spillway.kv WHERE expires_at <= clock_timestamp()
  ORDER BY expires_at LIMIT 10000 FOR UPDATE SKIP LOCKED))"};

const Statement drop_old_results{"sw_drop_old_results", R"(
DELETE FROM spillway.results WHERE event_id IN (
  SELECT event_id FROM spillway.results WHERE created_at < clock_timestamp() - interval '1 day'
  ORDER BY created_at LIMIT 10000 FOR UPDATE SKIP LOCKED))"};

MaintenanceTask statement_task(std::string name, milliseconds interval,
                               const Statement& statement) {
  return {std::move(name), interval,
          [&statement](SqlSession& session) -> std::optional<milliseconds> {
            session.run(statement);
            return std::nullopt;
          }};
}

// A frozen process (SIGSTOP, a paused machine) that was about to receive rows: its session waits to
// send them, which no timeout of the server ends. Statements of runners end within the batch
// timeout otherwise, so one that is twice as old and waits for its client is such a one.
const Statement end_frozen_sql{"sw_end_frozen", R"(
SELECT pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.usename = current_user
  AND a.state = 'active' AND a.wait_event = 'ClientWrite'
  AND a.query_start < clock_timestamp() - $1::bigint * interval '2 milliseconds'
  AND EXISTS (SELECT FROM pg_catalog.pg_locks l
              WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                AND l.classid = $2::int::oid AND l.database = a.datid))"};

MaintenanceTask end_frozen_sessions(milliseconds batch_timeout) {
  return {"ending sessions of frozen processes", milliseconds(5000),
          [batch_timeout](SqlSession& session) -> std::optional<milliseconds> {
            if (batch_timeout.count() > 0)
              session.run(end_frozen_sql, {std::to_string(batch_timeout.count()).c_str(),
                                           std::to_string(lane_lock_class).c_str()});
            return std::nullopt;
          }};
}

}  // namespace

Maintenance::Maintenance(PgTarget target, std::vector<MaintenanceTask> tasks,
                         std::function<void(const std::string&)> log)
    : target_(std::move(target)), log_(std::move(log)) {
  for (MaintenanceTask& task : tasks) tasks_.push_back({std::move(task), clock::now(), {}});
}

Maintenance::~Maintenance() {
  stop();
}

void Maintenance::start() {
  thread_ = std::jthread([this] { run(); });
}

void Maintenance::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  stop_asked_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Maintenance::rest(milliseconds most) {
  std::unique_lock lock(mutex_);
  stop_asked_.wait_for(lock, most, [this] { return stopping_; });
}

void Maintenance::run() {
  Backoff backoff;
  const auto stopping = [this] {
    const std::scoped_lock lock(mutex_);
    return stopping_;
  };
  while (!stopping()) {
    try {
      PgConnection connection(target_);
      backoff.reset();
      while (!stopping()) work(connection);
    } catch (const std::exception&) {  // the runners report that the database is away
      rest(backoff.next());
    }
  }
}

void Maintenance::work(PgConnection& connection) {
  auto soonest = clock::now() + milliseconds(1000);
  for (Planned& planned : tasks_) {
    if (planned.next <= clock::now()) run_task(planned, connection);
    soonest = std::min(soonest, planned.next);
  }
  const auto left = std::chrono::ceil<milliseconds>(soonest - clock::now());
  if (left.count() > 0) rest(left);
}

void Maintenance::run_task(Planned& planned, PgConnection& connection) {
  planned.next = clock::now() + planned.task.interval;
  try {
    const auto again = planned.task.run(connection);
    if (again) planned.next = std::min(planned.next, clock::now() + *again);
    planned.last_error.clear();
  } catch (const SqlError& error) {
    if (is_outage(error.sqlstate())) throw;
    // A task that left its transaction open must not spoil the next one's.
    connection.exec("ROLLBACK");
    if (std::exchange(planned.last_error, error.what()) != error.what())
      log_(planned.task.name + " failed: " + error.what());
  }
}

std::vector<MaintenanceTask> worker_upkeep(milliseconds batch_timeout) {
  return {
      end_frozen_sessions(batch_timeout),
      statement_task("removing expired keys", milliseconds(1000), drop_expired_keys),
      statement_task("removing old responses", milliseconds(10'000), drop_old_results),
  };
}

std::vector<MaintenanceTask> stream_upkeep(const std::vector<std::string>& latest_channels) {
  std::vector<MaintenanceTask> tasks = {
      statement_task("removing old ephemeral broadcasts", milliseconds(1000), drop_old_ephemeral),
      presence_upkeep()};
  if (!latest_channels.empty()) {
    std::string patterns = "{";
    for (const std::string& pattern : latest_channels) append_array_element(patterns, pattern);
    patterns += '}';
    tasks.push_back({"naming the latest channels", milliseconds(60'000),
                     [patterns](SqlSession& session) -> std::optional<milliseconds> {
                       session.run(name_latest, {patterns.c_str()});
                       return std::nullopt;
                     }});
  }
  return tasks;
}

}  // namespace spillway
