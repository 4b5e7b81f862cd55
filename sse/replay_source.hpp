// Where the streams get what is no longer in memory. Implemented over PostgreSQL by the processor
// and over a vector by the tests; `sse/` itself knows no SQL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sse/broadcast.hpp"

namespace spillway::sse {

struct ReplayRequest {
  // Exact channel names; one that ends in ":*" means every channel that starts with what stands
  // before the "*".
  std::vector<std::string> channels;
  std::optional<std::uint64_t> after;  // nullopt: from the oldest that is kept
  std::size_t limit = 500;             // broadcasts at most
  std::size_t bytes = 256u << 10;      // the page ends once its broadcasts have that many
};

// One page, read in one snapshot.
struct ReplayPage {
  Head head;
  // What the channels carried up to here is no longer kept. Not above `after` where they carried
  // nothing between it and what is kept.
  std::uint64_t floor = 0;
  std::vector<Broadcast> broadcasts;  // durable ones of the channels, after < position <= upto
  std::uint64_t upto = 0;             // the page is complete up to here (head.position on the last)
};

// For latest channels: the newest durable broadcast of each, not newer than `upto`.
struct LatestRequest {
  std::vector<std::string> channels;  // as above
  std::uint64_t upto = 0;
  std::size_t limit = 1000;       // channels at most
  std::size_t bytes = 16u << 20;  // and no more once they have that many
};
struct LatestPage {
  Head head;
  std::vector<Broadcast> broadcasts;
  bool complete = false;  // these are all, and were not cut off at a limit
};

class ReplaySource {
 public:
  virtual ~ReplaySource() = default;

  // Calls `done` exactly once, on any thread, also after the requester has gone. nullopt: it cannot
  // be read now (too many waiting, or the database is away); the client is told to come back.
  virtual void read(ReplayRequest request, std::function<void(std::optional<ReplayPage>)> done) = 0;
  virtual void read_latest(LatestRequest request,
                           std::function<void(std::optional<LatestPage>)> done) = 0;
};

}  // namespace spillway::sse
