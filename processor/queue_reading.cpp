#include "processor/queue_reading.hpp"

namespace spillway {
namespace {

const Statement beside_sql{"sw_beside_the_queue", R"(
SELECT (SELECT count(*) FROM spillway.suspects),
       (SELECT count(*) FROM spillway.webhooks WHERE finished_at IS NULL),
       count(*) FILTER (WHERE enabled), count(*) FILTER (WHERE enabled AND last_error IS NOT NULL),
       greatest(0, extract(epoch FROM clock_timestamp() - min(next_at)))
FROM spillway.schedules)"};

}  // namespace

QueueReading read_queue(SqlSession& session) {
  QueueReading reading;
  reading.status = read_status(session);
  const Rows rows = session.run(beside_sql);
  reading.suspects = rows.integer(0, 0);
  reading.webhooks_waiting = rows.integer(0, 1);
  reading.schedules_enabled = rows.integer(0, 2);
  reading.schedules_failing = rows.integer(0, 3);
  reading.schedules_overdue_seconds = std::stod(rows.string(0, 4));
  return reading;
}

void add_queue_metrics(const QueueReading& reading, MetricFamilies& families) {
  const Status& status = reading.status;
  const auto gauge = [&](const char* name, const char* help, auto value,
                         const MetricFamilies::Labels& labels = {}) {
    families.gauge(name, help, static_cast<double>(value), labels);
  };
  const char* const events = "Events in the database that are not done, by state.";
  gauge("spillway_queue_events", events, status.pending, {{"state", "pending"}});
  gauge("spillway_queue_events", events, status.scheduled, {{"state", "scheduled"}});
  gauge("spillway_queue_events", events, status.retrying, {{"state", "retrying"}});
  gauge("spillway_queue_oldest_seconds", "Age of the oldest pending event; 0 when there is none.",
        status.oldest_pending_seconds.value_or(0));
  gauge("spillway_dead_letters", "Dead letters in the database.", status.dead);
  gauge("spillway_suspects", "Events that may have ended a process and have to run alone.",
        reading.suspects);
  gauge("spillway_webhooks_waiting", "Webhooks in the database that are not finished.",
        reading.webhooks_waiting);
  const char* const schedules = "Schedules, by state.";
  gauge("spillway_schedules", schedules, reading.schedules_enabled, {{"state", "enabled"}});
  gauge("spillway_schedules", schedules, reading.schedules_failing, {{"state", "failing"}});
  gauge("spillway_schedules_overdue_seconds", "How late the next tick of a schedule is.",
        reading.schedules_overdue_seconds);
  gauge("spillway_stream_head_position", "Position of the last broadcast.", status.head);
  gauge("spillway_stream_floor_position", "Positions up to this one are no longer kept.",
        status.floor);
  const char* const processes = "Live processes of this database, by role.";
  gauge("spillway_processes", processes, status.workers, {{"role", "worker"}});
  gauge("spillway_processes", processes, status.stream_servers, {{"role", "sse"}});
  gauge("spillway_runners", "Runners of all live workers.", status.runners);
}

}  // namespace spillway
