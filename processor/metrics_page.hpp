// GET /metrics. A thread of its own puts the text together, so that neither a thousand types nor a
// database that hangs keeps a server's thread.
//
// What is in memory is always there. What stands in the database is read for a scrape, at most once
// in a few seconds, on a connection of its own; a scrape waits for that a moment only, and is then
// answered with the last reading if that is not old, or without. add_route(), start() and stop()
// belong to one thread; stop() blocks, may be called twice. Owns nothing that it is given.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "processor/job_pool.hpp"
#include "processor/metric_families.hpp"
#include "processor/queue_reading.hpp"
#include "sse/server.hpp"

namespace spillway {

struct MetricsPageOptions {
  PgTarget target;
  std::chrono::milliseconds read_interval{3000};   // between two readings, at least
  std::chrono::milliseconds patience{2000};        // how long a scrape waits for one
  std::chrono::milliseconds longest_read{10'000};  // then the database ends it
  std::chrono::milliseconds oldest{60'000};        // a reading that is still shown
};

class MetricsPage {
 public:
  // Adds all that is not read from the database; called on the page's thread.
  using Collect = std::function<void(MetricFamilies&)>;

  explicit MetricsPage(MetricsPageOptions options);
  ~MetricsPage();
  MetricsPage(const MetricsPage&) = delete;
  MetricsPage& operator=(const MetricsPage&) = delete;

  // Until start() and after stop() the answer is 503.
  void add_route(sse::Server& server);
  void start(Collect collect);
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  // Shared with the job that reads, which may outlast the patience.
  struct Reading {
    std::mutex mutex;
    std::condition_variable changed;
    bool under_way = false;
    bool up = false;  // the database answered
    std::optional<QueueReading> last;
    Clock::time_point begun{};  // of the last one that was begun
    Clock::time_point taken{};  // when `last` was read
    std::chrono::system_clock::time_point taken_at{};
  };
  // A job that is dropped, or throws, ends the reading too.
  class Job;

  void run();
  [[nodiscard]] std::string page();
  void read();
  void add_database_metrics(MetricFamilies& families);

  MetricsPageOptions options_;
  std::shared_ptr<Reading> reading_ = std::make_shared<Reading>();
  Collect collect_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<sse::Respond> waiting_;
  bool running_ = false;
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
  JobPool pool_;
};

}  // namespace spillway
