// A runner: one thread, one connection, batch after batch; sleeps when there is nothing to do.
//
// start() and stop() belong to one thread. stop() lets the batch in hand finish, blocks, may be
// called twice. A database outage is waited out for ever.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "processor/batch.hpp"
#include "processor/handler_set.hpp"
#include "processor/idle_protocol.hpp"
#include "processor/lane_marks.hpp"
#include "processor/linger.hpp"
#include "processor/pg_target.hpp"
#include "processor/wake.hpp"

namespace spillway {

// What the runners of a process have done since it started. Relaxed counters, for status.
struct RunnerCounters {
  std::atomic<std::uint64_t> batches{0};
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> retried{0};
  std::atomic<std::uint64_t> dead{0};
  std::atomic<std::uint64_t> armings{0};  // times a runner got ready to sleep
};

// What runners of one process share. Everything in it is thread-safe and outlives them.
struct RunnerShared {
  PgTarget target;
  const HandlerSet* handlers = nullptr;
  LaneMarks* marks = nullptr;
  Wake* wake = nullptr;      // signalled when events may have come
  Linger* linger = nullptr;  // what they promise each other
  RunnerCounters* counters = nullptr;
  std::function<int()> live_runners;          // of all processes, at least 1
  std::function<bool()> registered;           // others would notice this process's end
  std::function<void()> connection_was_lost;  // what was committed last is unknown
  // No waiting can mend it (SchemaVersionError, PoolerError): the process has to end.
  std::function<void(std::exception_ptr)> give_up;
  LogFunction log;
  std::function<void()> looked;  // about once a second at least; may be empty
  BatchOptions batch;
  BatchSinks sinks;
  std::size_t most_events = 1000;  // of a batch
  IdleProtocol::Options idle;
};

class Runner {
 public:
  Runner(RunnerShared shared, int number);
  ~Runner();

  void start();
  void request_stop();  // takes no further batch; stop() then waits for the one in hand
  void stop();

 private:
  void run();
  void await_registration();
  [[nodiscard]] std::unique_ptr<SqlSession> connect();
  void work(SqlSession& session);
  void sleep(std::chrono::milliseconds most);
  void rely(std::uint64_t signals);

  RunnerShared shared_;
  int number_;
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
};

}  // namespace spillway
