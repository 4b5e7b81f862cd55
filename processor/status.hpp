// How the queue and the streams stand, for `spillway status` and `GET /api/status`.
// One session, one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "effects/sql.hpp"

namespace spillway {

struct Status {
  std::int64_t pending = 0;  // ready, or held back by an earlier event of their stream
  std::int64_t scheduled = 0;
  std::int64_t retrying = 0;
  std::int64_t dead = 0;
  std::optional<double> oldest_pending_seconds;
  std::int64_t last_event_id = 0;
  std::int64_t enqueued = 0;  // since the schema was made; for rates
  std::int64_t head = 0;      // position of the last broadcast
  std::int64_t floor = 0;
  std::string epoch;
  int workers = 0;  // live processes that run handlers
  int runners = 0;
  int lanes = 0;  // of the queue; more runners than that have nothing to do
  int stream_servers = 0;
};

[[nodiscard]] Status read_status(SqlSession& session);

struct Rates {
  double enqueued_per_second = 0;
  double settled_per_second = 0;  // done, dead or postponed
  double broadcasts_per_second = 0;
};
[[nodiscard]] Rates rates_between(const Status& before, const Status& after, double seconds);

[[nodiscard]] nlohmann::json to_json(const Status& status);
[[nodiscard]] nlohmann::json to_json(const Rates& rates);

}  // namespace spillway
