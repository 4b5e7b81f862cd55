#include "processor/status.hpp"

#include <algorithm>

#include "processor/worker_registry.hpp"

namespace spillway {
namespace {

const Statement status_sql{"sw_status", R"(
SELECT (SELECT count(*) FROM spillway.queue) + (SELECT count(*) FROM spillway.ranked)
         + (SELECT count(*) FROM spillway.waiting WHERE attempts = 0 AND NOT discarded),
       (SELECT count(*) FROM spillway.scheduled),
       (SELECT count(*) FROM spillway.waiting
        WHERE attempts > 0 AND due_at IS DISTINCT FROM 'infinity' AND NOT discarded),
       (SELECT count(*) FROM spillway.dead_letters),
       (SELECT extract(epoch FROM clock_timestamp() - e.execute_at) FROM spillway.events e
        WHERE e.id = (SELECT min(event_id) FROM (
          SELECT min(q.event_id) AS event_id FROM spillway.queue q
          UNION ALL SELECT min(r.event_id) FROM spillway.ranked r
          UNION ALL SELECT min(w.event_id) FROM spillway.waiting w WHERE w.attempts = 0) pending)),
       (SELECT max(id) FROM spillway.events),
       (SELECT last_value FROM spillway.queue_seq WHERE is_called),
       h.last, h.floor, h.epoch, spillway.lane_count()
FROM spillway.stream_head h)"};

}  // namespace

Status read_status(SqlSession& session) {
  const Rows rows = session.run(status_sql);
  Status status;
  status.pending = rows.integer(0, 0);
  status.scheduled = rows.integer(0, 1);
  status.retrying = rows.integer(0, 2);
  status.dead = rows.integer(0, 3);
  if (!rows.is_null(0, 4))
    status.oldest_pending_seconds = std::max(0.0, std::stod(rows.string(0, 4)));
  status.last_event_id = rows.integer(0, 5);
  status.enqueued = rows.integer(0, 6);
  status.head = rows.integer(0, 7);
  status.floor = rows.integer(0, 8);
  status.epoch = rows.string(0, 9);
  status.lanes = rows.integer<int>(0, 10);
  const LiveWorkers live = WorkerRegistry(session, true).count();
  status.workers = live.workers;
  status.runners = live.runners;
  status.stream_servers = live.stream_servers;
  return status;
}

Rates rates_between(const Status& before, const Status& after, double seconds) {
  Rates rates;
  if (seconds <= 0) return rates;
  const auto enqueued = static_cast<double>(after.enqueued - before.enqueued);
  rates.enqueued_per_second = enqueued / seconds;
  rates.settled_per_second =
      std::max(0.0, enqueued - static_cast<double>(after.pending - before.pending)) / seconds;
  rates.broadcasts_per_second = static_cast<double>(after.head - before.head) / seconds;
  return rates;
}

nlohmann::json to_json(const Status& status) {
  return {{"pending", status.pending},
          {"scheduled", status.scheduled},
          {"retrying", status.retrying},
          {"dead", status.dead},
          {"oldest_pending_seconds", status.oldest_pending_seconds
                                         ? nlohmann::json(*status.oldest_pending_seconds)
                                         : nlohmann::json(nullptr)},
          {"last_event_id", status.last_event_id},
          {"head", status.head},
          {"floor", status.floor},
          {"epoch", status.epoch},
          {"workers", status.workers},
          {"runners", status.runners},
          {"lanes", status.lanes},
          {"stream_servers", status.stream_servers}};
}

nlohmann::json to_json(const Rates& rates) {
  return {{"enqueued_per_second", rates.enqueued_per_second},
          {"settled_per_second", rates.settled_per_second},
          {"broadcasts_per_second", rates.broadcasts_per_second}};
}

}  // namespace spillway
