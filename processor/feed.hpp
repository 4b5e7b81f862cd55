// Keeps the hub of this process fed with what other processes committed, and with what this one
// committed but could not hand over. Reads the outbox when it is told to (NOTIFY, a hole in the
// hub) and once a second anyhow.
//
// start() and stop() belong to one thread; stop() blocks and may be called twice.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "processor/pg_connection.hpp"
#include "processor/wake.hpp"
#include "sse/counters.hpp"
#include "sse/hub.hpp"

namespace spillway {

class OutboxReader;

class Feed {
 public:
  // `wake` is signalled whenever the outbox should be read.
  Feed(PgTarget target, sse::Hub& hub, Wake& wake, std::function<void(const std::string&)> log);
  ~Feed();

  void start();
  void stop();

  [[nodiscard]] const sse::CountBy<Woken>& wakes() const { return wakes_; }  // any thread

 private:
  void run();
  void follow(PgConnection& connection);
  void catch_up(OutboxReader& reader);

  PgTarget target_;
  sse::Hub& hub_;
  Wake& wake_;
  std::function<void(const std::string&)> log_;
  sse::CountBy<Woken> wakes_;
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
};

}  // namespace spillway
