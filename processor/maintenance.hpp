// The upkeep of a process: small tasks that return in time, one after the other on a thread and a
// connection of their own, so that nothing of it stands in the way of events or notifications.
//
// Every process does all of its tasks: each must be safe beside its twin in another process (SKIP
// LOCKED, or a lock of its own). A task that fails is reported, once until it succeeds again or
// fails otherwise, and tried at its next time; a lost connection is made anew. start() and stop()
// belong to one thread; stop() lets the task in hand finish and may be called twice.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "processor/pg_connection.hpp"

namespace spillway {

struct MaintenanceTask {
  std::string name;  // for the log: "NAME failed: …"
  std::chrono::milliseconds interval{1000};
  // Does one small step. Returns when it wants to run again, if that is before the interval is over
  // (0: at once, there is more to do).
  std::function<std::optional<std::chrono::milliseconds>(SqlSession& session)> run;
};

class Maintenance {
 public:
  Maintenance(PgTarget target, std::vector<MaintenanceTask> tasks,
              std::function<void(const std::string&)> log);
  ~Maintenance();
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

  void start();
  void stop();

 private:
  using clock = std::chrono::steady_clock;
  struct Planned {
    MaintenanceTask task;
    clock::time_point next;
    std::string last_error;
  };

  void run();
  void work(PgConnection& connection);
  void run_task(Planned& planned, PgConnection& connection);
  void rest(std::chrono::milliseconds most);

  PgTarget target_;
  std::vector<Planned> tasks_;
  std::function<void(const std::string&)> log_;
  std::mutex mutex_;
  std::condition_variable stop_asked_;
  bool stopping_ = false;
  std::jthread thread_;
};

// Removes what has had its time: expired keys of spillway.kv and old responses.
[[nodiscard]] std::vector<MaintenanceTask> worker_upkeep(std::chrono::milliseconds batch_timeout);
// Ephemeral broadcasts that every stream server has long seen; and which latest channels this one
// has, for those who drop old broadcasts.
[[nodiscard]] std::vector<MaintenanceTask> stream_upkeep(
    const std::vector<std::string>& latest_channels = {});

}  // namespace spillway
