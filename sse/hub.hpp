// The hub takes committed broadcasts from any thread, puts them in position order, encodes each
// once and hands the frames to every shard. One per process.
//
// Thread-safe. Memory: the log is a ring capped in bytes; what arrives ahead of a hole is parked,
// capped as well, and dropped beyond that, because whoever feeds the hub can read it again from the
// database. Nothing here throws on account of what is published.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "sse/broadcast.hpp"
#include "sse/latest.hpp"

namespace spillway::sse {

struct HubOptions {
  std::size_t log_bytes = 64u << 20;     // encoded frames kept in memory
  std::size_t parked_bytes = 16u << 20;  // batches waiting for a hole to fill
  std::size_t shards = 1;                // threads that serve streams
  LatestOptions latest = {};  // channels of which a late joiner gets the newest frame only
};

class Shard;

class Hub {
 public:
  explicit Hub(HubOptions options);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  // Says where the line stands before the first publish; streams are served from then on. Calling
  // it again with another epoch (the database was replaced) ends every stream; clients come back
  // and are reset. With the same epoch it changes nothing but the ephemeral number.
  // Throws std::invalid_argument on an epoch that cannot stand in an id.
  void start(const Head& head);
  [[nodiscard]] bool started() const;

  // Takes a committed batch. What is known already is skipped, what lies ahead of a hole is parked;
  // before start() everything is. The positions are counted from the batch's base.
  void publish(BroadcastBatch batch);

  // Ephemeral broadcasts up to `number` are gone for good (a crash empties their table): do not
  // wait for them.
  void skip_ephemeral(std::uint64_t number);

  // Positions up to this one that are not in the log are gone for good: goes on behind it. Ends
  // every stream when there are any; clients come back and are reset.
  void skip(std::uint64_t position);

  // The last position (and ephemeral number) that is in the log without a hole.
  [[nodiscard]] Head head() const;

  // True while something is parked behind a hole, or was dropped there for want of room. `on_gap`
  // is called, on the publishing thread, each time a batch is parked: whoever feeds the hub should
  // read the hole from the database soon.
  [[nodiscard]] bool has_gap() const;
  void on_gap(std::function<void()> callback);

 private:
  friend class Server;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::sse
