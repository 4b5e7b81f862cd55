// Gives broadcasts their positions and writes them to the outbox, as the last thing before COMMIT:
// from here to the commit the transaction holds the row lock on stream_head, which makes positions
// dense and gives them the order of the commits. Once the commit is known to have happened, take()
// hands the batch over for the streams.
// One session, one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "effects/executor.hpp"
#include "effects/sql.hpp"
#include "sse/broadcast.hpp"

namespace spillway {

class Outbox {
 public:
  explicit Outbox(SqlSession& session) : session_(session) {}

  // Starts over, forgetting what a rolled-back transaction collected.
  void clear();

  // In the order in which streams shall see them.
  void add(std::int64_t event_id, std::vector<PendingBroadcast> broadcasts);

  [[nodiscard]] bool empty() const { return event_ids_.empty(); }
  [[nodiscard]] std::size_t durable() const { return durable_; }
  [[nodiscard]] std::size_t ephemeral() const { return pending_.size() - durable_; }

  // Writes what was added. `notify`: wake the feeds of other processes.
  void write(bool notify);

  // After COMMIT.
  [[nodiscard]] sse::BroadcastBatch take();

 private:
  SqlSession& session_;
  std::vector<std::int64_t> event_ids_;
  std::vector<PendingBroadcast> pending_;
  std::size_t durable_ = 0;
  std::uint64_t base_position_ = 0;
  std::uint64_t base_ephemeral_ = 0;
};

}  // namespace spillway
