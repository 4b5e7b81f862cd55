#include "tests/load/swarm.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

namespace spillway::load {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::uint64_t number_behind(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  std::uint64_t number = 0;
  if (at != std::string_view::npos)
    std::from_chars(text.data() + at + key.size(), text.data() + text.size(), number);
  return number;
}

}  // namespace

void raise_file_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Swarm::Swarm(int port) : port_(port), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) fail("epoll_create1");
}

Swarm::~Swarm() {
  for (std::size_t i = 0; i < clients_.size(); ++i) close(i);
  ::close(epoll_);
}

std::size_t Swarm::add(Client client) {
  clients_.push_back(std::move(client));
  return clients_.size() - 1;
}

void Swarm::open(std::size_t number) {
  Client& client = clients_[number];
  client.socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client.socket < 0) fail("socket");
  if (client.receive_buffer > 0)
    setsockopt(client.socket, SOL_SOCKET, SO_RCVBUF, &client.receive_buffer,
               sizeof client.receive_buffer);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port_));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(client.socket, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    fail("connect");
  std::string request = "GET /sse?channel=" + client.channel + " HTTP/1.1\r\nHost: localhost\r\n";
  if (!client.last_id.empty()) request += "Last-Event-ID: " + client.last_id + "\r\n";
  request += "\r\n";
  if (::send(client.socket, request.data(), request.size(), MSG_NOSIGNAL) < 0) fail("send");
  client.open = true;
  client.opened = false;
  client.rest.clear();
  ++client.connections;
  epoll_event event{};
  event.events = client.reading ? std::uint32_t{EPOLLIN} : 0u;
  event.data.u64 = number;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, client.socket, &event) != 0) fail("epoll_ctl");
}

void Swarm::close(std::size_t number) {
  Client& client = clients_[number];
  if (!client.open) return;
  ::close(client.socket);
  client.socket = -1;
  client.open = false;
  client.rest.clear();
  client.ended = Clock::now();
}

void Swarm::read(std::size_t number, bool reading) {
  Client& client = clients_[number];
  client.reading = reading;
  if (!client.open) return;
  epoll_event event{};
  event.events = reading ? std::uint32_t{EPOLLIN} : 0u;
  event.data.u64 = number;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, client.socket, &event);
}

bool Swarm::run_until(const std::function<bool()>& done, milliseconds most) {
  const auto end = Clock::now() + most;
  while (!done()) {
    if (Clock::now() >= end) return false;
    serve(20);
  }
  return true;
}

void Swarm::run_for(milliseconds time) {
  run_until([] { return false; }, time);
}

bool Swarm::all(const std::function<bool(const Client&)>& like, std::size_t first) const {
  return std::all_of(clients_.begin() + static_cast<std::ptrdiff_t>(first), clients_.end(), like);
}

std::vector<double> Swarm::take_latencies() {
  return std::exchange(latencies_, {});
}

void Swarm::serve(int milliseconds_at_most) {
  std::array<epoll_event, 512> events{};
  const int count = epoll_wait(epoll_, events.data(), events.size(), milliseconds_at_most);
  for (int i = 0; i < count; ++i) {
    const auto& event = events[static_cast<std::size_t>(i)];
    Client& client = clients_[event.data.u64];
    // One that does not read is not told that it was dropped either, until it does.
    if (client.open && client.reading)
      receive(event.data.u64);
    else if (client.open)
      read(event.data.u64, false);
  }
}

void Swarm::receive(std::size_t number) {
  thread_local std::array<char, 1u << 18> bytes;
  Client& client = clients_[number];
  const ssize_t got = ::recv(client.socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0) client.rest.append(bytes.data(), static_cast<std::size_t>(got));
  std::size_t begin = 0;
  for (std::size_t end; (end = client.rest.find("\n\n", begin)) != std::string::npos;) {
    block(client, std::string_view(client.rest).substr(begin, end - begin));
    begin = end + 2;
  }
  // The last word of a stream that ends has no empty line behind it.
  if (got <= 0) {
    const std::string_view rest = std::string_view(client.rest).substr(begin);
    if (const auto retry = number_behind(rest, "retry: "); retry > 0)
      client.retry = static_cast<int>(retry);
    return close(number);
  }
  client.rest.erase(0, begin);
}

void Swarm::block(Client& client, std::string_view text) {
  if (const auto retry = number_behind(text, "retry: "); retry > 0)
    client.retry = static_cast<int>(retry);
  const std::size_t id = text.rfind("\nid: ");
  if (id == std::string_view::npos) return;
  client.last_id = text.substr(id + 5);
  if (text.find("event: reset\n") != std::string_view::npos) {
    ++client.resets;
    return;
  }
  if (text.find("data: {\"type\":\"connected\"") != std::string_view::npos) {
    client.opened = true;
    return;
  }
  const std::uint64_t n = number_behind(text, "\"n\":");
  if (client.last != 0 && n != client.last + 1) ++client.breaks;
  client.last = n;
  ++client.frames;
  if (!client.measured) return;
  const auto sent = static_cast<std::int64_t>(number_behind(text, "\"t\":"));
  const auto now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  latencies_.push_back(static_cast<double>(now - sent) / 1e9);
}

}  // namespace spillway::load
