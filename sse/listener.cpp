#include "sse/listener.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

namespace spillway::sse {
namespace {

using asio::ip::tcp;

constexpr int kAcceptsPerWake = 64;
constexpr int kBacklog = 4096;  // the kernel cuts it to what it allows
constexpr std::chrono::milliseconds kPause{100};

[[noreturn]] void fail(const error_code& error, const Endpoint& endpoint) {
  throw std::system_error(std::error_code(error), "cannot listen on " + endpoint.text());
}

std::vector<tcp::endpoint> addresses_of(asio::io_context& context, const Endpoint& endpoint) {
  error_code error;
  if (const auto address = asio::ip::make_address(endpoint.host, error); !error)
    return {tcp::endpoint(address, endpoint.port)};
  tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(endpoint.host, std::to_string(endpoint.port), tcp::resolver::passive, error);
  if (error) fail(error, endpoint);
  std::vector<tcp::endpoint> addresses;
  for (const auto& entry : found) addresses.push_back(entry.endpoint());
  // `localhost` is both; clients try the other family by themselves, scripts write 127.0.0.1.
  std::stable_partition(addresses.begin(), addresses.end(),
                        [](const tcp::endpoint& e) { return e.address().is_v4(); });
  return addresses;
}

std::uint16_t port_of(int socket) {
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &length) != 0) return 0;
  // The port is at the same place in both.
  sockaddr_in in{};
  std::memcpy(&in, &bound, sizeof in);
  return ntohs(in.sin_port);
}

}  // namespace

Listener::Listener(asio::io_context& context, const Endpoint& endpoint,
                   std::function<void(int, const Peer&)> accepted)
    : endpoint_(endpoint), acceptor_(context), pause_(context), accepted_(std::move(accepted)) {
  if (endpoint_.is_unix()) {
    bind_file();
  } else {
    bind_address();
  }
}

void Listener::bind_address() {
  if (endpoint_.host.size() > 2 && endpoint_.host.front() == '[' && endpoint_.host.back() == ']')
    endpoint_.host = endpoint_.host.substr(1, endpoint_.host.size() - 2);
  auto& context = static_cast<asio::io_context&>(acceptor_.get_executor().context());
  error_code error;
  for (const tcp::endpoint& address : addresses_of(context, endpoint_)) {
    error_code ignored;
    acceptor_.close(ignored);
    acceptor_.open(address.protocol(), error);
    if (!error) acceptor_.set_option(Acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(address, error);
    if (!error) acceptor_.listen(kBacklog, error);
    if (!error) acceptor_.non_blocking(true, error);
    if (!error) break;
  }
  if (error) fail(error, endpoint_);
  endpoint_.port = port_of(acceptor_.native_handle());
}

void Listener::bind_file() {
  error_code error;
  acceptor_.open({AF_UNIX, 0}, error);
  if (!error) acceptor_.non_blocking(true, error);
  if (error) fail(error, endpoint_);
  file_.emplace(acceptor_.native_handle(), endpoint_.path, endpoint_.mode);
}

void Listener::close() {
  if (std::exchange(closed_, true)) return;
  accept_waiting();  // closing would reset those that were let in by the kernel already
  error_code ignored;
  acceptor_.close(ignored);
  file_.reset();
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
