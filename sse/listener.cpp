#include "sse/listener.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace spillway::sse {
namespace {

using asio::ip::tcp;

constexpr int kAcceptsPerWake = 64;
constexpr int kBacklog = 4096;  // the kernel cuts it to what it allows
constexpr std::chrono::milliseconds kPause{100};

[[noreturn]] void fail(const error_code& error, const std::string& host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  throw std::system_error(
      std::error_code(error),
      "cannot listen on " + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port));
}

std::vector<tcp::endpoint> endpoints_of(asio::io_context& context, std::string host,
                                        std::uint16_t port) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  error_code error;
  if (const auto address = asio::ip::make_address(host, error); !error)
    return {tcp::endpoint(address, port)};
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error) fail(error, host, port);
  std::vector<tcp::endpoint> endpoints;
  for (const auto& entry : found) endpoints.push_back(entry.endpoint());
  // `localhost` is both; clients try the other family by themselves, scripts write 127.0.0.1.
  std::stable_partition(endpoints.begin(), endpoints.end(),
                        [](const tcp::endpoint& e) { return e.address().is_v4(); });
  return endpoints;
}

}  // namespace

Listener::Listener(asio::io_context& context, const std::string& host, std::uint16_t port,
                   std::function<void(int, const Peer&)> accepted)
    : acceptor_(context), pause_(context), accepted_(std::move(accepted)) {
  error_code error;
  for (const tcp::endpoint& endpoint : endpoints_of(context, host, port)) {
    error_code ignored;
    acceptor_.close(ignored);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(Acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(kBacklog, error);
    if (!error) acceptor_.non_blocking(true, error);
    if (!error) break;
  }
  if (error) fail(error, host, port);
  port_ = acceptor_.local_endpoint().port();
}

void Listener::close() {
  if (std::exchange(closed_, true)) return;
  accept_waiting();  // closing would reset those that were let in by the kernel already
  error_code ignored;
  acceptor_.close(ignored);
  pause_.cancel();
}

void Listener::wait() {
  acceptor_.async_wait(Acceptor::wait_read, [this](error_code) {
    if (!closed_) accept_some();
  });
}

void Listener::accept_some() {
  if (accept_waiting()) wait();
}

// False when there is no room for more and it has to pause.
bool Listener::accept_waiting() {
  for (int i = 0; i < kAcceptsPerWake; ++i) {
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    const int socket = ::accept4(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&from),
                                 &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket >= 0) {
      accepted_(socket, Peer(from));
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) break;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      pause();
      return false;
    }
    // Anything else is about that one connection, which is over already.
  }
  return true;
}

// The connection stays in the backlog, so waiting on it would come back at once, for ever.
void Listener::pause() {
  if (closed_) return;
  pause_.expires_after(kPause);
  pause_.async_wait([this](error_code) {
    if (!closed_) wait();
  });
}

}  // namespace spillway::sse
