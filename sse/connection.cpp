#include "sse/connection.hpp"

#include <netinet/in.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>

namespace spillway::sse {
namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr int kReadsPerCall = 4;

asio::generic::stream_protocol protocol_of(const Peer& peer) {
  if (peer.is_unix()) return {AF_UNIX, 0};
  return {peer.address()->is_v4() ? AF_INET : AF_INET6, IPPROTO_TCP};
}

}  // namespace

Connection::Connection(asio::io_context& context, int descriptor, const Peer& peer,
                       error_code& error)
    : socket_(context), peer_(peer) {
  socket_.assign(protocol_of(peer), descriptor, error);
  if (!error && !peer.is_unix()) set_connection_options(descriptor);
}

void Connection::set_stream_options(std::chrono::milliseconds blocked_timeout) noexcept {
  if (!peer_.is_unix()) sse::set_stream_options(socket_.native_handle(), blocked_timeout);
}

asio::awaitable<Connection::Transfer> Connection::read_some(asio::mutable_buffer buffer) {
  const auto [error, bytes] = co_await socket_.async_read_some(buffer, kNoThrow);
  co_return Transfer{error, bytes};
}

asio::awaitable<Connection::Transfer> Connection::write_some(std::string_view bytes) {
  const auto [error, taken] =
      co_await socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), kNoThrow);
  co_return Transfer{error, taken};
}

bool Connection::finish_sending() {
  error_code error;
  socket_.shutdown(Socket::shutdown_send, error);
  return !error;
}

void Connection::cancel() {
  error_code ignored;
  socket_.cancel(ignored);
}

Connection::Input Connection::discard_input() {
  std::array<char, 16384> discarded;
  for (int i = 0; i < kReadsPerCall; ++i) {
    const ssize_t n =
        ::recv(socket_.native_handle(), discarded.data(), discarded.size(), MSG_DONTWAIT);
    if (n > 0 || (n < 0 && errno == EINTR)) continue;
    if (n == 0) return Input::closed;
    if (errno == EAGAIN || errno == EWOULDBLOCK) break;
    return Input::failed;
  }
  return Input::open;
}

void Connection::close() {
  error_code ignored;
  if (socket_.is_open()) socket_.close(ignored);
}

}  // namespace spillway::sse
