// The routes beside the streams: the page, POST /events, status and health. Handlers run on the
// server's threads and never block; what needs the database goes through a JobPool. Thread-safe.
#pragma once

#include <functional>

#include "processor/job_pool.hpp"
#include "processor/response_waiter.hpp"
#include "sse/server.hpp"

namespace spillway {

class HttpApi {
 public:
  // `healthy`: was the database there, with the right schema, at the last probe?
  HttpApi(PgTarget target, std::function<bool()> healthy);

  void add_routes(sse::Server& server);
  void stop();

  // A batch of this process was committed.
  void settled() { waiter_.settled(); }

 private:
  JobPool pool_;
  ResponseWaiter waiter_;
  std::function<bool()> healthy_;
};

}  // namespace spillway
