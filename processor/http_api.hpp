// The routes beside the streams: the page, POST /events, status and health. Handlers run on the
// server's threads and never block; what needs the database goes through a JobPool. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "processor/job_pool.hpp"
#include "processor/response_waiter.hpp"
#include "sse/server.hpp"

namespace spillway {

class HttpApi {
 public:
  // `healthy`: was the database there, with the right schema, at the last probe?
  // `worker_id`: of this process in spillway.workers, 0 while it is not known.
  HttpApi(PgTarget target, std::function<bool()> healthy,
          std::function<std::int64_t()> worker_id = {});

  void add_routes(sse::Server& server);
  // The process is about to end: not ready any more, all else as before.
  void begin_drain() { draining_ = true; }
  // Who waits for an event is told that it is not done yet.
  void stop_waiting() { waiter_.stop(); }
  void stop();

  // A batch of this process was committed.
  void settled() { waiter_.settled(); }
  [[nodiscard]] std::size_t waiting() const { return pool_.waiting(); }  // for the database

 private:
  JobPool pool_;
  ResponseWaiter waiter_;
  std::function<bool()> healthy_;
  std::function<std::int64_t()> worker_id_;
  std::atomic<bool> draining_{false};
};

}  // namespace spillway
