// The streams' ReplaySource over the outbox: a small pool of connections, so that any number of
// resuming clients is an orderly queue for the database. Thread-safe.
#pragma once

#include "processor/job_pool.hpp"
#include "sse/replay_source.hpp"

namespace spillway {

class OutboxReplay final : public sse::ReplaySource {
 public:
  explicit OutboxReplay(PgTarget target);

  void read(sse::ReplayRequest request,
            std::function<void(std::optional<sse::ReplayPage>)> done) override;
  void read_latest(sse::LatestRequest request,
                   std::function<void(std::optional<sse::LatestPage>)> done) override;

  void stop() { pool_.stop(); }
  [[nodiscard]] std::size_t waiting() const { return pool_.waiting(); }

 private:
  JobPool pool_;
};

}  // namespace spillway
