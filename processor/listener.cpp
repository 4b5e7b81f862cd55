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
#include "processor/queue_store.hpp"

namespace spillway {
namespace {

constexpr int probe_interval_ms = 1000;

// A shared advisory lock says "here lives a process with so many runners, and it serves streams";
// it goes with the session, however that ends.
const Statement announce{"sw_announce", "SELECT pg_advisory_lock_shared($1::int, $2::int)"};

const Statement count_live{"sw_count_live", R"(
SELECT coalesce(sum(objid::bigint >> 1), 0),
       count(*) FILTER (WHERE objid::bigint & 1 = 1 AND pid <> pg_backend_pid()),
       (SELECT max(version) FROM spillway.migrations)
FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND classid = $1::int::oid AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))"};

}  // namespace

Listener::Listener(ListenerOptions options, Wake& events, Wake& broadcasts)
    : options_(std::move(options)),
      events_(events),
      broadcasts_(broadcasts),
      live_runners_(std::max(1, options_.runners)),
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
      listen(connection);
    } catch (const std::exception& error) {
      healthy_ = false;
      others_listen_ = true;
      if (!stopping_) rest(static_cast<int>(backoff.next().count()), -1);
    }
  }
}

void Listener::listen(PgConnection& connection) {
  connection.listen("spillway_events", [this] { events_.signal(); });
  connection.listen("spillway_broadcasts", [this] { broadcasts_.signal(); });
  const int identity = options_.runners * 2 + (options_.serves_streams ? 1 : 0);
  connection.run(announce,
                 {std::to_string(worker_lock_class).c_str(), std::to_string(identity).c_str()});
  // Whatever was notified while nobody listened.
  events_.signal();
  broadcasts_.signal();

  using clock = std::chrono::steady_clock;
  auto next_probe = clock::now();
  while (!stopping_) {
    if (clock::now() >= next_probe) {
      probe(connection);
      next_probe = clock::now() + std::chrono::milliseconds(probe_interval_ms);
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(next_probe - clock::now()).count();
    rest(static_cast<int>(std::clamp<long long>(left, 0, probe_interval_ms)), connection.socket());
    connection.poll_notifications();
  }
}

void Listener::probe(PgConnection& connection) {
  const Rows rows = connection.run(count_live, {std::to_string(worker_lock_class).c_str()});
  live_runners_ = std::max(1, rows.integer<int>(0, 0));
  others_listen_ = rows.integer<int>(0, 1) > 0;
  healthy_ = rows.integer<int>(0, 2) == newest_schema_version();
}

}  // namespace spillway
