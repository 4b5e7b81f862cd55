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

using Status = TlsSession::Status;

bool is_wait(Status status) {
  return status == Status::want_read || status == Status::want_write;
}

error_code error_of(Status status) {
  if (status == Status::done || is_wait(status)) return {};
  if (status == Status::closed) return asio::error::eof;
  return asio::error::connection_reset;
}

asio::generic::stream_protocol protocol_of(const Peer& peer) {
  if (peer.is_unix()) return {AF_UNIX, 0};
  return {peer.address()->is_v4() ? AF_INET : AF_INET6, IPPROTO_TCP};
}

}  // namespace

Connection::Connection(asio::io_context& context, int descriptor, const Peer& peer,
                       const TlsContext* tls, error_code& error)
    : socket_(context), peer_(peer), tcp_(!peer.is_unix()) {
  socket_.assign(protocol_of(peer), descriptor, error);
  if (error) return;
  if (tcp_) set_connection_options(descriptor);
  if (tls != nullptr) tls_ = std::make_unique<TlsSession>(*tls, descriptor);
}

void Connection::set_stream_options(std::chrono::milliseconds blocked_timeout) noexcept {
  if (tcp_) sse::set_stream_options(socket_.native_handle(), blocked_timeout);
}

asio::awaitable<error_code> Connection::wait_for(Status status) {
  const auto [error] = co_await socket_.async_wait(
      status == Status::want_read ? Socket::wait_read : Socket::wait_write, kNoThrow);
  co_return error;
}

asio::awaitable<Connection::Handshake> Connection::handshake() {
  Status status = tls_->handshake();
  if (is_wait(status)) {
    if (co_await wait_for(status)) co_return Handshake::failed;
    status = tls_->handshake();
    if (is_wait(status)) co_return Handshake::again;
  }
  if (status == Status::done) co_return Handshake::done;
  const bool plain = status == Status::plain_http;
  tls_.reset();
  co_return plain ? Handshake::plain_http : Handshake::failed;
}

asio::awaitable<Connection::Transfer> Connection::read_some(asio::mutable_buffer buffer) {
  if (tls_) {
    std::size_t read = 0;
    Status status = tls_->read(buffer.data(), buffer.size(), read);
    if (is_wait(status)) {
      if (const error_code failed = co_await wait_for(status)) co_return Transfer{failed};
      status = tls_->read(buffer.data(), buffer.size(), read);
    }
    co_return Transfer{error_of(status), read};
  }
  const auto [error, bytes] = co_await socket_.async_read_some(buffer, kNoThrow);
  co_return Transfer{error, bytes};
}

asio::awaitable<Connection::Transfer> Connection::write_some(std::string_view bytes) {
  if (tls_) {
    const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    std::size_t written = 0;
    Status status = tls_->write(&piece, 1, written);
    if (is_wait(status) && written == 0) {
      if (const error_code failed = co_await wait_for(status)) co_return Transfer{failed};
      status = tls_->write(&piece, 1, written);
    }
    co_return Transfer{error_of(status), written};
  }
  const auto [error, taken] =
      co_await socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), kNoThrow);
  co_return Transfer{error, taken};
}

bool Connection::finish_sending() {
  if (tls_) tls_->say_goodbye();
  tls_.reset();
  error_code error;
  socket_.shutdown(Socket::shutdown_send, error);
  return !error;
}

void Connection::cancel() {
  error_code ignored;
  socket_.cancel(ignored);
}

void Connection::forget_buffered() {
  std::array<char, 4096> forgotten;
  std::size_t bytes = 0;
  while (tls_ && tls_->buffered() &&
         tls_->read(forgotten.data(), forgotten.size(), bytes) == Status::done) {
  }
}

ssize_t Connection::send_encrypted(const iovec* pieces, std::size_t count) {
  const std::uint64_t left = tls_->left();
  std::size_t bytes = 0;
  const Status status = tls_->write(pieces, count, bytes);
  if (status == Status::done || bytes > 0) return static_cast<ssize_t>(bytes);
  if (is_wait(status) && tls_->left() != left) return 0;
  errno = is_wait(status) ? EAGAIN : ECONNRESET;
  return -1;
}

Connection::Input Connection::discard_encrypted() {
  std::array<char, 16384> discarded;
  std::size_t bytes = 0;
  for (int i = 0; i < kReadsPerCall; ++i) {
    switch (tls_->read(discarded.data(), discarded.size(), bytes)) {
      case Status::done:
        continue;
      case Status::want_read:
        return Input::open;
      case Status::closed:
        return Input::closed;
      // It wants an answer to a handshake message and takes none. Waiting for both at once is not
      // worth the trouble for a client that comes back anyway.
      case Status::want_write:
      case Status::failed:
      case Status::plain_http:
        return Input::failed;
    }
  }
  forget_buffered();  // or nobody would be woken for it
  return Input::open;
}

Connection::Input Connection::discard_input() {
  if (tls_) return discard_encrypted();
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
  if (!socket_.is_open()) return;
  if (tls_) tls_->say_goodbye();
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace spillway::sse
