#include "processor/job_pool.hpp"

#include <chrono>
#include <exception>
#include <memory>
#include <utility>

namespace spillway {

JobPool::JobPool(PgTarget target, std::size_t threads, std::size_t most_waiting)
    : target_(std::move(target)), most_waiting_(most_waiting) {
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

JobPool::~JobPool() {
  stop();
}

bool JobPool::post(Job job) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || jobs_.size() >= most_waiting_) return false;
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
  return true;
}

std::size_t JobPool::waiting() const {
  const std::scoped_lock lock(mutex_);
  return jobs_.size();
}

void JobPool::stop() {
  std::deque<Job> dropped;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    dropped.swap(jobs_);
  }
  changed_.notify_all();
  for (auto& thread : threads_)
    if (thread.joinable()) thread.join();
}

void JobPool::run() {
  using clock = std::chrono::steady_clock;
  std::unique_ptr<PgConnection> connection;
  clock::time_point last_failure{};
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    // While the database is away every job would wait for a connection attempt; one in 200 ms may.
    if (!connection && clock::now() - last_failure > std::chrono::milliseconds(200)) {
      try {
        connection = std::make_unique<PgConnection>(target_);
      } catch (const std::exception&) {
        last_failure = clock::now();
      }
    }
    try {
      job(connection.get());
    } catch (const std::exception&) {  // the job has told its owner what it could
      connection.reset();
    }
    if (connection && connection->lost()) connection.reset();
  }
}

}  // namespace spillway
