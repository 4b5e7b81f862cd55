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
      PgConnection connection(options_.target.direct());
      backoff.reset();
      follow(connection);
    } catch (const PoolerError&) {
      if (options_.give_up) options_.give_up(std::current_exception());
      return;
    } catch (const std::exception&) {
      healthy_ = false;
      others_listen_ = true;
      if (!stopping_) rest(static_cast<int>(backoff.next().count()), -1);
    }
  }
}

void Listener::follow(PgConnection& connection) {
  // First of all: what follows may not even be there in a newer schema.
  check_not_newer(schema_version(connection));
  const bool pooled = connection.pooled();
  WorkerRegistry registry(connection, pooled);
  if (pooled) {
    if (!std::exchange(told_to_poll_, true))
      options_.log(
          "the database is behind a pooler in transaction mode, which takes no LISTEN: polling "
          "once "
          "a second; --direct-url names a way past it");
  } else {
    // One runner looks at every lane; it calls the others when there is more than it can do.
    connection.listen("spillway_events", [this] { events_.signal_one(Woken::notify); });
    connection.listen("spillway_broadcasts", [this] { broadcasts_.signal(Woken::notify); });
    if (options_.presence != nullptr)
      connection.listen("spillway_presence", [this] { options_.presence->signal(Woken::notify); });
  }
  worker_id_ = registry.enter(options_.worker, worker_id_);
  // Whatever was notified while nobody listened.
  events_.signal();
  broadcasts_.signal();

  using clock = std::chrono::steady_clock;
  auto next_probe = clock::now();
  while (!stopping_) {
    if (clock::now() >= next_probe) {
      if (pooled && !registry.beat(worker_id_))
        worker_id_ = registry.enter(options_.worker, worker_id_);
      probe(registry);
      next_probe = clock::now() + std::chrono::milliseconds(probe_interval_ms);
      // What came with its answers is not in the socket any more.
      if (!pooled) connection.poll_notifications();
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(next_probe - clock::now()).count();
    rest(static_cast<int>(std::clamp<long long>(left, 0, probe_interval_ms)),
         pooled ? -1 : connection.socket());
    if (!pooled) connection.poll_notifications();
  }
  registry.leave(worker_id_);
}

void Listener::probe(WorkerRegistry& registry) {
  const LiveWorkers live = registry.count(worker_id_);
  live_runners_ = std::max(1, live.runners);
  others_listen_ = live.others_listen > 0;
  healthy_ = live.schema_version == newest_schema_version();
  check_not_newer(live.schema_version);
}

void Listener::check_not_newer(int version) {
  if (version > newest_schema_version() && options_.give_up)
    options_.give_up(std::make_exception_ptr(newer_than_binary(version)));
}

}  // namespace spillway
