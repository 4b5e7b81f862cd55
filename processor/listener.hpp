// The LISTEN connection of a process: turns notifications into wake-ups, enters the process into
// spillway.workers, counts those that live, and probes the database once a second.
//
// start() and stop() belong to one thread; stop() blocks, takes the process out of the registry and
// may be called twice. What it tells is thread-safe. While the connection is away, everybody polls;
// so they do where it leads through a pooler in transaction mode, which takes no LISTEN.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <thread>

#include "processor/pg_connection.hpp"
#include "processor/wake.hpp"
#include "processor/worker_registry.hpp"

namespace spillway {

struct ListenerOptions {
  PgTarget target;
  WorkerDescription worker;  // this process
  std::function<void(const std::string&)> log;
  // The schema has become newer than this binary: the process has to end. May be empty.
  std::function<void(std::exception_ptr)> give_up = {};
  // Other processes' subscribers have changed; null: nobody asks.
  Wake* presence = nullptr;
};

class Listener {
 public:
  // `events`: something may be in the queue. `broadcasts`: something may be in the outbox.
  Listener(ListenerOptions options, Wake& events, Wake& broadcasts);
  ~Listener();

  void start();
  void stop();

  // The process's id in spillway.workers; 0 until it has connected.
  [[nodiscard]] std::int64_t worker_id() const { return worker_id_; }
  [[nodiscard]] int live_runners() const { return live_runners_; }
  // Do other processes serve streams? True when it is not known.
  [[nodiscard]] bool others_listen() const { return others_listen_; }
  // The last probe found the database, with the schema this binary was made for.
  [[nodiscard]] bool healthy() const { return healthy_; }

 private:
  void run();
  void follow(PgConnection& connection);
  void probe(WorkerRegistry& registry);
  void check_not_newer(int version);
  void rest(int milliseconds, int socket);

  ListenerOptions options_;
  Wake& events_;
  Wake& broadcasts_;
  bool told_to_poll_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<int> live_runners_{1};
  std::atomic<bool> others_listen_{true};
  std::atomic<bool> healthy_{false};
  std::atomic<std::int64_t> worker_id_{0};
  int stop_event_ = -1;  // eventfd
  std::jthread thread_;
};

}  // namespace spillway
