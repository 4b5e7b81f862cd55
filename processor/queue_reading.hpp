// What a scrape reads from the database: how the queue stands, and what waits beside it.
// One session, one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstdint>

#include "effects/sql.hpp"
#include "processor/metric_families.hpp"
#include "processor/status.hpp"

namespace spillway {

struct QueueReading {
  Status status;
  std::int64_t suspects = 0;
  std::int64_t webhooks_waiting = 0;
  std::int64_t schedules_enabled = 0;
  std::int64_t schedules_failing = 0;
  double schedules_overdue_seconds = 0;
};

[[nodiscard]] QueueReading read_queue(SqlSession& session);

void add_queue_metrics(const QueueReading& reading, MetricFamilies& families);

}  // namespace spillway
