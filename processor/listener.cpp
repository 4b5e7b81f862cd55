#include "processor/listener.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "processor/backoff.hpp"
#include "processor/migrator.hpp"
#include "processor/worker_registry.hpp"

namespace spillway {
namespace {

constexpr int probe_interval_ms = 1000;

}  // namespace

Listener::Listener(ListenerOptions options, Wake& events, Wake& broadcasts)
    : options_(std::move(options)),
      events_(events),
      broadcasts_(broadcasts),
      live_runners_(std::max(1, options_.worker.runners)),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (stop_event_ < 0) throw std::runtime_error("eventfd: no file descriptor left");
}

Listener::~Listener() {
  stop();
  close(stop_event_);
}

void Listener::start() {
  thread_ = std::jthread([this] { run(); });
}

void Listener::stop() {
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(stop_event_, &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

void Listener::rest(int milliseconds, int socket) {
  pollfd sources[] = {{stop_event_, POLLIN, 0}, {socket, POLLIN, 0}};
  poll(sources, socket < 0 ? 1 : 2, milliseconds);
}

void Listener::run() {
  Backoff backoff;
  while (!stopping_) {
    try {
      PgConnection connection(options_.target);
      backoff.reset();
      follow(connection);
    } catch (const std::exception& error) {
      healthy_ = false;
      others_listen_ = true;
      if (!stopping_) rest(static_cast<int>(backoff.next().count()), -1);
    }
  }
}

void Listener::follow(PgConnection& connection) {
  WorkerRegistry registry(connection, false);
  connection.listen("spillway_events", [this] { events_.signal(); });
  connection.listen("spillway_broadcasts", [this] { broadcasts_.signal(); });
  worker_id_ = registry.enter(options_.worker, worker_id_);
  // Whatever was notified while nobody listened.
  events_.signal();
  broadcasts_.signal();

  using clock = std::chrono::steady_clock;
  auto next_probe = clock::now();
  while (!stopping_) {
    if (clock::now() >= next_probe) {
      probe(registry);
      next_probe = clock::now() + std::chrono::milliseconds(probe_interval_ms);
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(next_probe - clock::now()).count();
    rest(static_cast<int>(std::clamp<long long>(left, 0, probe_interval_ms)), connection.socket());
    connection.poll_notifications();
  }
  registry.leave(worker_id_);
}

void Listener::probe(WorkerRegistry& registry) {
  const LiveWorkers live = registry.count(worker_id_);
  live_runners_ = std::max(1, live.runners);
  others_listen_ = live.others_listen > 0;
  healthy_ = live.schema_version == newest_schema_version();
}

}  // namespace spillway
