// Answers requests that wait for their event (`POST /events?wait=`): a list of the waiting, and one
// thread that asks the database for all of them together, when a batch of this process was
// committed and every now and then for what others do.
//
// wait_for() and settled() are thread-safe. stop() blocks and may be called twice; who still waits
// is told that the event is not done yet.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "processor/pg_connection.hpp"
#include "processor/wake.hpp"

namespace spillway {

class ResponseWaiter {
 public:
  // What became of an event: {"id","status":"done","response"} or {"id","status":"dead","error"};
  // null when the time was over first. Called once, on the waiter's thread.
  using Done = std::function<void(const nlohmann::json& outcome)>;

  explicit ResponseWaiter(PgTarget target);
  ~ResponseWaiter();

  // False when too many wait already; `done` is not called then.
  [[nodiscard]] bool wait_for(std::int64_t event_id, std::chrono::milliseconds most, Done done);

  // A batch was committed: cheap when nobody waits.
  void settled() {
    if (waiting_.load(std::memory_order_relaxed) > 0) wake_.signal();
  }

  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    std::int64_t event_id;
    Clock::time_point deadline;
    Done done;
  };

  void run();
  void look(PgConnection& connection);
  void give_up_late_ones(bool all);

  PgTarget target_;
  Wake wake_;
  std::mutex mutex_;
  std::vector<Waiting> waiters_;
  std::atomic<std::size_t> waiting_{0};
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
};

}  // namespace spillway
