#include "tests/torture/proxy.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace spillway::torture {
namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t most_pending = 256u << 10;

int connected(int fd, const sockaddr* address, socklen_t size) {
  if (fd >= 0 && connect(fd, address, size) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

void prepare(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // refused by Unix sockets
}

void close_with_reset(int fd) {
  const linger now{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(fd);
}

// False: the connection is over.
bool receive(int fd, std::string& pending) {
  std::array<char, 65536> bytes{};
  const ssize_t got = recv(fd, bytes.data(), bytes.size(), 0);
  if (got > 0) pending.append(bytes.data(), static_cast<std::size_t>(got));
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}
bool transmit(int fd, std::string& pending) {
  if (pending.empty()) return true;
  const ssize_t sent = send(fd, pending.data(), pending.size(), MSG_NOSIGNAL);
  if (sent > 0) pending.erase(0, static_cast<std::size_t>(sent));
  return sent > 0 || errno == EAGAIN || errno == EINTR;
}

}  // namespace

int connect_to_port(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connected(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                   reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int connect_to_path(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return connected(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                   reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

struct Proxy::Connection {
  int client = -1;
  int server = -1;
  std::string to_client{};
  std::string to_server{};
  clock::time_point held_until{};
  bool cut_after_hold = false;
  bool tear = false;
};

Proxy::Proxy(std::function<int()> connect, std::uint64_t seed)
    : connect_(std::move(connect)), random_(seed) {
  listening_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listening_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listening_, 128) != 0 ||
      getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("the proxy cannot listen");
  port_ = ntohs(address.sin_port);
  event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  thread_ = std::jthread([this] { run(); });
}

Proxy::~Proxy() {
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(event_, &one, sizeof one);
  thread_.join();
  for (auto& connection : connections_) end(*connection, false);
  for (const auto& [until, fd] : lingering_) close(fd);
  close(listening_);
  close(event_);
}

void Proxy::inflict(const Fault& fault) {
  {
    const std::scoped_lock lock(mutex_);
    faults_.push_back(fault);
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(event_, &one, sizeof one);
}

void Proxy::apply(const Fault& fault) {
  if (connections_.empty()) return;
  std::bernoulli_distribution chosen(fault.likelihood);
  std::vector<Connection*> targets;
  for (auto& connection : connections_)
    if (chosen(random_)) targets.push_back(connection.get());
  if (targets.empty()) targets.push_back(connections_[random_() % connections_.size()].get());
  for (Connection* connection : targets) {
    ++hit_;
    switch (fault.kind) {
      case Fault::Kind::reset:
        end(*connection, true);
        break;
      case Fault::Kind::silence:
      case Fault::Kind::delay:
        connection->held_until = clock::now() + fault.time;
        connection->cut_after_hold = fault.kind == Fault::Kind::silence;
        break;
      case Fault::Kind::tear:
        connection->tear = true;
        break;
    }
  }
}

void Proxy::accept_one() {
  const int client = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  const int server = connect_();
  if (server < 0) {
    close_with_reset(client);
    return;
  }
  ++accepted_;
  prepare(client);
  prepare(server);
  auto connection = std::make_unique<Connection>();
  connection->client = client;
  connection->server = server;
  connections_.push_back(std::move(connection));
}

// With a reset the other side may live on for a while: a server hears of it late, or never.
void Proxy::end(Connection& connection, bool with_reset) {
  if (connection.client < 0) return;
  if (with_reset) {
    close_with_reset(connection.client);
    lingering_.emplace_back(clock::now() + std::chrono::milliseconds(random_() % 400),
                            connection.server);
  } else {
    close(connection.client);
    close(connection.server);
  }
  connection.client = connection.server = -1;
}

void Proxy::pump(Connection& connection, short client, short server) {
  constexpr short readable = POLLIN | POLLHUP | POLLERR;
  if ((client & readable) != 0 && connection.to_server.size() < most_pending &&
      !receive(connection.client, connection.to_server)) {
    transmit(connection.server, connection.to_server);
    return end(connection, false);
  }
  if ((server & readable) != 0 && connection.to_client.size() < most_pending &&
      !receive(connection.server, connection.to_client)) {
    transmit(connection.client, connection.to_client);
    return end(connection, false);
  }
  if (connection.tear && !(connection.to_client.empty() && connection.to_server.empty())) {
    connection.to_client.resize(connection.to_client.size() / 2);
    connection.to_server.resize(connection.to_server.size() / 2);
    transmit(connection.client, connection.to_client);
    transmit(connection.server, connection.to_server);
    return end(connection, true);
  }
  if (!transmit(connection.client, connection.to_client) ||
      !transmit(connection.server, connection.to_server))
    end(connection, false);
}

void Proxy::run() {
  while (!stopping_) {
    std::vector<pollfd> sources{{event_, POLLIN, 0}, {listening_, POLLIN, 0}};
    bool timed = !lingering_.empty();
    for (auto& connection : connections_) {
      const bool held = clock::now() < connection->held_until;
      timed = timed || held || connection->cut_after_hold;
      const auto wanted = [&](const std::string& in, const std::string& out) {
        if (held) return static_cast<short>(0);
        return static_cast<short>((in.size() < most_pending ? POLLIN : 0) |
                                  (out.empty() ? 0 : POLLOUT));
      };
      // A held connection is not looked at, or its end would wake us all the time.
      sources.push_back({held ? -1 : connection->client,
                         wanted(connection->to_server, connection->to_client), 0});
      sources.push_back({held ? -1 : connection->server,
                         wanted(connection->to_client, connection->to_server), 0});
    }
    poll(sources.data(), sources.size(), timed ? 5 : 1000);
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      Connection& connection = *connections_[i];
      if (clock::now() < connection.held_until) continue;
      if (connection.cut_after_hold) {
        end(connection, true);
        continue;
      }
      pump(connection, sources[2 + 2 * i].revents, sources[3 + 2 * i].revents);
    }
    std::erase_if(lingering_, [](const auto& one) {
      if (clock::now() < one.first) return false;
      close(one.second);
      return true;
    });
    if ((sources[1].revents & POLLIN) != 0) accept_one();
    std::uint64_t ignored = 0;
    [[maybe_unused]] const auto got = read(event_, &ignored, sizeof ignored);
    std::vector<Fault> faults;
    {
      const std::scoped_lock lock(mutex_);
      faults.swap(faults_);
    }
    for (const Fault& fault : faults) apply(fault);
    std::erase_if(connections_, [](const auto& one) { return one->client < 0; });
  }
}

}  // namespace spillway::torture
