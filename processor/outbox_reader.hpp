// Reads committed broadcasts back from the outbox: for the hub of this process, and for clients
// that resume behind what is in memory. One session, one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "effects/sql.hpp"
#include "sse/broadcast.hpp"
#include "sse/replay_source.hpp"

namespace spillway {

class OutboxReader {
 public:
  explicit OutboxReader(SqlSession& session) : session_(session) {}

  // Where the line stands, with its floor.
  struct Line {
    sse::Head head;
    std::uint64_t floor = 0;
  };
  [[nodiscard]] Line line();

  // The line went back behind `known` (the database lost commits, or was restored): what follows
  // are other broadcasts under numbers that were given out before. Gives the line a new epoch,
  // unless another process has done so, and returns where it stands.
  [[nodiscard]] sse::Head renew_epoch(const sse::Head& known);

  // What was committed after `known`, durable and ephemeral interleaved, `limit` durable ones at
  // most, and fewer when they are large. Empty broadcasts: nothing new. `lost_ephemeral`: numbers
  // up to it are gone for good. A floor above `known`: what comes next is no longer kept, and
  // nothing is returned.
  struct Tail {
    sse::Head head;
    std::uint64_t floor = 0;
    sse::BroadcastBatch batch;
    std::uint64_t lost_ephemeral = 0;
    bool more = false;
  };
  [[nodiscard]] Tail read_after(const sse::Head& known, std::size_t limit);

  // One page of some channels, in one snapshot. Its floor is the one of these channels: where none
  // of them lost anything behind `after` it is `after`, however far the common floor has moved.
  [[nodiscard]] sse::ReplayPage read_page(const sse::ReplayRequest& request);

  // The newest durable broadcast of each channel, in one snapshot.
  [[nodiscard]] sse::LatestPage read_latest(const sse::LatestRequest& request);

 private:
  SqlSession& session_;
};

}  // namespace spillway
