#include "tests/bench/clients.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace spillway::bench {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kBuffer = 256u << 10;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void allow_many_files() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

Clients::Clients() : epoll_(epoll_create1(EPOLL_CLOEXEC)), buffer_(kBuffer) {
  if (epoll_ < 0) fail("epoll_create1");
  allow_many_files();
}

Clients::~Clients() {
  for (const Client& client : clients_) ::close(client.fd);
  ::close(epoll_);
}

void Clients::open(std::uint16_t port, const std::string& target) {
  Client client;
  client.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client.fd < 0) fail("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  // The port is chosen when it is known where to, so that one in use for another server will do.
  const int one = 1;
  ::setsockopt(client.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  // One address has some 28,000 ports to connect from; other loopback addresses have their own.
  address.sin_addr.s_addr =
      htonl(INADDR_LOOPBACK + static_cast<std::uint32_t>(clients_.size() / 20'000));
  if (::bind(client.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fail("bind");
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(client.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fail("connect");
  const std::string request = "GET " + target +
                              " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port) +
                              "\r\nAccept: text/event-stream\r\n\r\n";
  if (::send(client.fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    fail("send");
  ::fcntl(client.fd, F_SETFL, O_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = clients_.size();
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, client.fd, &event) != 0) fail("epoll_ctl");
  clients_.push_back(std::move(client));
}

void Clients::take(Client& client, const char* bytes, std::size_t size) {
  std::string_view text(bytes, size);
  if (!client.in_body) {
    client.head += text;
    const std::size_t end = client.head.find("\r\n\r\n");
    if (end == std::string::npos) return;
    if (!client.head.starts_with("HTTP/1.1 200"))
      throw std::runtime_error("a stream was refused: " + client.head.substr(0, 200));
    client.in_body = true;
    const std::string body = client.head.substr(end + 4);
    client.head = {};
    return take(client, body.data(), body.size());
  }
  count_.bytes += text.size();
  std::uint64_t frames = 0;
  bool newline = client.last_was_newline;
  for (const char* next = text.data(); next != text.data() + text.size();) {
    if (*next == '\n') {
      if (newline) ++frames;
      newline = !newline;
      ++next;
      continue;
    }
    newline = false;
    const auto left = static_cast<std::size_t>(text.data() + text.size() - next);
    const void* found = std::memchr(next, '\n', left);
    next = found == nullptr ? text.data() + text.size() : static_cast<const char*>(found);
  }
  client.last_was_newline = newline;
  client.frames += frames;
  count_.frames += frames;
}

void Clients::pump(int timeout_ms) {
  std::array<epoll_event, 512> events;
  const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms);
  for (int i = 0; i < n; ++i) {
    Client& client = clients_[events[static_cast<std::size_t>(i)].data.u64];
    const ssize_t got = ::recv(client.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got > 0) {
      take(client, buffer_.data(), static_cast<std::size_t>(got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      throw std::runtime_error("a stream was closed by the server");
    }
  }
}

void Clients::pump_until(const std::function<bool()>& done, std::chrono::seconds patience) {
  auto last = steady_clock::now();
  std::uint64_t bytes = count_.bytes;
  while (!done()) {
    pump(100);
    const auto now = steady_clock::now();
    if (count_.bytes != bytes) {
      bytes = count_.bytes;
      last = now;
    } else if (now - last > patience) {
      throw std::runtime_error("nothing came for " + std::to_string(patience.count()) + " s; " +
                               std::to_string(count_.frames) + " frames so far");
    }
  }
}

void Clients::await_greetings(std::uint64_t frames, std::chrono::seconds patience) {
  std::size_t greeted = 0;
  pump_until(
      [&] {
        while (greeted < clients_.size() && clients_[greeted].in_body &&
               clients_[greeted].frames >= frames)
          ++greeted;
        return greeted == clients_.size();
      },
      patience);
  count_ = {};
}

void Clients::await_frames(std::uint64_t frames, std::chrono::seconds patience) {
  const std::uint64_t wanted = count_.frames + frames;
  pump_until([&] { return count_.frames >= wanted; }, patience);
}

}  // namespace spillway::bench
