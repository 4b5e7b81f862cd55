// A few threads, each with a database connection of its own, and a bounded queue of jobs: how
// request handlers, which must not block, get at the database.
//
// post() is thread-safe. stop() blocks, may be called twice; jobs that were not begun are dropped,
// and the destruction of a job tells its owner. A job that finds the database away gets nullptr.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "processor/pg_connection.hpp"

namespace spillway {

class JobPool {
 public:
  using Job = std::function<void(PgConnection* connection)>;

  JobPool(PgTarget target, std::size_t threads, std::size_t most_waiting);
  ~JobPool();

  // False when too many wait already; the job was not taken.
  [[nodiscard]] bool post(Job job);
  void stop();
  [[nodiscard]] std::size_t waiting() const;  // jobs that nobody has begun

 private:
  void run();

  PgTarget target_;
  std::size_t most_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace spillway
