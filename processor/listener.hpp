// The LISTEN connection of a process: turns notifications into wake-ups, says to the other
// processes that this one lives, counts them, and probes the database once a second.
//
// start() and stop() belong to one thread; stop() blocks and may be called twice. The counts are
// thread-safe. While the connection is away, everybody polls.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "processor/pg_connection.hpp"
#include "processor/wake.hpp"

namespace spillway {

struct ListenerOptions {
  PgTarget target;
  int runners = 0;  // of this process
  bool serves_streams = false;
  std::function<void(const std::string&)> log;
};

class Listener {
 public:
  // `events`: something may be in the queue. `broadcasts`: something may be in the outbox.
  Listener(ListenerOptions options, Wake& events, Wake& broadcasts);
  ~Listener();

  void start();
  void stop();

  [[nodiscard]] int live_runners() const { return live_runners_; }
  // Do other processes serve streams? True when it is not known.
  [[nodiscard]] bool others_listen() const { return others_listen_; }
  // The last probe found the database, with the schema this binary was made for.
  [[nodiscard]] bool healthy() const { return healthy_; }

 private:
  void run();
  void listen(PgConnection& connection);
  void probe(PgConnection& connection);
  void rest(int milliseconds, int socket);

  ListenerOptions options_;
  Wake& events_;
  Wake& broadcasts_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> live_runners_{1};
  std::atomic<bool> others_listen_{true};
  std::atomic<bool> healthy_{false};
  int stop_event_ = -1;  // eventfd
  std::jthread thread_;
};

}  // namespace spillway
