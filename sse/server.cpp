#include "sse/server.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <utility>

#include "sse/access.hpp"
#include "sse/http_session.hpp"
#include "sse/hub_impl.hpp"
#include "sse/listener.hpp"
#include "sse/router.hpp"

namespace spillway::sse {
namespace {

// Connections over the limit are let in to be told to come back, and to reach plain routes such as
// a health check; but not without end.
constexpr std::size_t kReserve = 256;
constexpr std::size_t kReservePerAddress = 16;

// An accepted connection on its way to its shard.
struct Accepted {
  Accepted(int f, const Peer& p, ConnectionSlot s) : fd(f), peer(p), slot(std::move(s)) {}
  Accepted(const Accepted&) = delete;
  Accepted& operator=(const Accepted&) = delete;
  ~Accepted() {
    if (fd >= 0) ::close(fd);
  }

  int fd;
  Peer peer;
  ConnectionSlot slot;
  std::shared_ptr<const TlsContext> tls;
};

std::int64_t expiry_of(const std::shared_ptr<const TlsContext>& tls) {
  return tls ? std::chrono::system_clock::to_time_t(tls->expires()) : 0;
}

}  // namespace

struct Server::Impl {
  Impl(ServerOptions o, Hub::Impl& h, ReplaySource& r)
      : options(std::move(o)),
        hub(h),
        replay(r),
        subscribers(options.max_subscribers_per_channel),
        connections(std::make_shared<ConnectionCounts>()) {
    if (options.presence.channels.empty()) return;
    presence = std::make_unique<Presence>(
        options.presence, [this](const std::shared_ptr<const std::vector<PresenceNews>>& news) {
          for (const auto& shard : hub.shards)
            shard->post([shard = shard.get(), news] { shard->announce(*news); });
        });
    subscribers.announce_to(presence.get());
  }

  void start_shard(Shard& shard);
  void accepted(int fd, const Peer& peer);
  void begin_session(HttpService& service, Accepted& connection);

  const ServerOptions options;
  Hub::Impl& hub;
  ReplaySource& replay;
  Router router;
  Subscribers subscribers;
  std::unique_ptr<Presence> presence;  // may be null
  const std::shared_ptr<ConnectionCounts> connections;
  std::vector<std::unique_ptr<HttpService>> services;  // one for each shard
  std::vector<std::unique_ptr<Listener>> listeners;    // on the first shard's thread
  std::size_t next = 0;                                // that thread's: whose turn it is
  Count accepted_count;                                // that thread writes
  std::shared_ptr<const TlsContext> tls;               // that thread's, once it runs
  std::atomic<std::int64_t> certificate_expires{0};    // of the newest; for the counters
  std::vector<Endpoint> endpoints;
  bool running = false;
};

void Server::Impl::start_shard(Shard& shard) {
  services.push_back(std::make_unique<HttpService>(
      HttpService{shard, options, Access(options.access), router, subscribers}));
  HttpService* http = services.back().get();
  Service service;
  service.options = {options.retry, options.heartbeat, options.blocked_timeout, options.page_bytes,
                     options.coalesce};
  service.replay_bytes = options.replay_bytes / hub.shards.size();
  service.replay = &replay;
  if (options.access_log) service.access_log = &options.access_log;
  // A session may be gone by the time it returns from either.
  const auto each = [http](void (HttpSession::*act)()) {
    for (auto next_session = http->sessions.begin(); next_session != http->sessions.end();) {
      const auto session = (next_session++)->shared_from_this();
      ((*session).*act)();
    }
  };
  service.finish = [each] { each(&HttpSession::finish); };
  service.abort = [each] { each(&HttpSession::abort); };
  shard.start(std::move(service));
}

void Server::Impl::accepted(int fd, const Peer& peer) {
  accepted_count.add();
  // Shared, because a task has to be copyable.
  auto connection = std::make_shared<Accepted>(fd, peer, ConnectionSlot(connections));
  if (is_counted(options, peer)) connection->slot.count_for(peer);
  if (connection->slot.order() > options.max_connections + kReserve ||
      connection->slot.client_order() > options.max_connections_per_address + kReservePerAddress) {
    hub.shards.front()->count().refusals.add(Refusal::reserve);  // this thread's
    return;
  }
  if (!peer.is_unix()) connection->tls = tls;
  HttpService& service = *services[next++ % services.size()];
  service.shard.post([this, &service, connection] { begin_session(service, *connection); });
}

void Server::Impl::begin_session(HttpService& service, Accepted& connection) {
  if (service.shard.finishing()) return;
  error_code error;
  Connection client(service.shard.context(), connection.fd, connection.peer, connection.tls.get(),
                    error);
  if (error) return;
  connection.fd = -1;
  std::make_shared<HttpSession>(service, std::move(client), std::move(connection.slot))->start();
}

Server::Server(ServerOptions options, Hub& hub, ReplaySource& replay)
    : impl_(std::make_unique<Impl>(std::move(options), *hub.impl_, replay)) {}

Server::~Server() {
  stop(std::chrono::milliseconds(0));
}

void Server::route(std::string method, std::string path, Right right, RouteHandler handler) {
  impl_->router.add({std::move(method), std::move(path), right, std::move(handler)});
}

void Server::start() {
  if (impl_->running) throw std::logic_error("the server is running already");
  auto& shards = impl_->hub.shards;
  std::vector<std::unique_ptr<Listener>> listeners;
  for (const Endpoint& endpoint : impl_->options.listen)
    listeners.push_back(std::make_unique<Listener>(
        shards.front()->context(), endpoint,
        [impl = impl_.get()](int fd, const Peer& peer) { impl->accepted(fd, peer); }));
  impl_->listeners = std::move(listeners);  // all of them, or none
  impl_->endpoints.clear();
  for (const auto& listener : impl_->listeners) impl_->endpoints.push_back(listener->endpoint());
  impl_->tls = impl_->options.tls;
  impl_->certificate_expires = expiry_of(impl_->tls);
  impl_->running = true;
  for (const auto& shard : shards) impl_->start_shard(*shard);
  if (impl_->presence) impl_->presence->start();
  shards.front()->post([impl = impl_.get()] {
    for (const auto& listener : impl->listeners) listener->start();
  });
}

void Server::use_tls(std::shared_ptr<const TlsContext> tls) {
  impl_->certificate_expires = expiry_of(tls);
  impl_->hub.shards.front()->post(
      [impl = impl_.get(), tls = std::move(tls)]() mutable { impl->tls = std::move(tls); });
}

std::vector<Endpoint> Server::endpoints() const {
  return impl_->endpoints;
}

std::uint16_t Server::port() const {
  for (const Endpoint& endpoint : impl_->endpoints)
    if (!endpoint.is_unix()) return endpoint.port;
  return 0;
}

std::size_t Server::streams() const {
  std::size_t count = 0;
  for (const auto& shard : impl_->hub.shards) count += shard->streams();
  return count;
}

ServerCounters Server::counters() const {
  ServerCounters sum;
  sum.connections_accepted = impl_->accepted_count.value();
  sum.streams = streams();
  sum.certificate_expires = impl_->certificate_expires;
  for (const auto& shard : impl_->hub.shards) sum.add(shard->counters());
  const std::lock_guard lock(impl_->hub.mutex);
  sum.parked_bytes = impl_->hub.sequencer.parked_bytes();
  return sum;
}

void Server::stop_accepting() {
  if (!impl_->running) return;
  impl_->hub.shards.front()->post([impl = impl_.get()] {
    for (const auto& listener : impl->listeners) listener->close();
  });
}

Presence* Server::presence() {
  return impl_->presence.get();
}

Subscribers& Server::subscribers() {
  return impl_->subscribers;
}

void Server::stop(std::chrono::milliseconds deadline) {
  stop_accepting();
  if (!std::exchange(impl_->running, false)) return;
  if (impl_->presence) impl_->presence->stop();
  auto& shards = impl_->hub.shards;
  for (const auto& shard : shards)
    shard->finish(deadline, impl_->options.closed_per_second / shards.size());
  for (const auto& shard : shards) shard->join();
  impl_->listeners.clear();
  impl_->services.clear();
}

}  // namespace spillway::sse
