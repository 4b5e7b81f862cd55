// The connection of one client: what an HTTP session reads requests from and a stream writes to. It
// hides what kind of socket it is, and whether bytes are encrypted.
//
// Belongs to one shard's thread and to one owner, who waits for one read and one write at a time;
// moved from the session to the stream. A session waits for it (the awaitables), a stream does not
// (send, discard_input). Nothing here throws for what a client does.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "sse/net.hpp"
#include "sse/peer.hpp"
#include "sse/tls_session.hpp"

namespace spillway::sse {

class Connection {
 public:
  // Takes over the descriptor that accept4() gave, unless `error` says that it could not.
  // With `tls` it is encrypted, and begins with handshake().
  Connection(asio::io_context& context, int descriptor, const Peer& peer, const TlsContext* tls,
             error_code& error);

  // Who is at the other end, or, once said, for whom it speaks.
  [[nodiscard]] const Peer& peer() const { return peer_; }
  void speak_for(const Peer& client) { peer_ = client; }
  [[nodiscard]] bool is_open() const { return socket_.is_open(); }
  void set_stream_options(std::chrono::milliseconds blocked_timeout) noexcept;

  // --- for a session ---
  [[nodiscard]] bool encrypted() const { return tls_ != nullptr; }
  // Once, before anything else, of an encrypted one. plain_http: it is not encrypted after all, for
  // an answer that says so.
  enum class Handshake { done, again, plain_http, failed };
  [[nodiscard]] asio::awaitable<Handshake> handshake();

  // What was moved; nothing and no error: call again. End of input is asio::error::eof.
  struct Transfer {
    error_code error;
    std::size_t bytes = 0;
  };
  [[nodiscard]] asio::awaitable<Transfer> read_some(asio::mutable_buffer buffer);
  // All of it has left only once unsent() is false as well.
  [[nodiscard]] asio::awaitable<Transfer> write_some(std::string_view bytes);
  // No more will be written; what is read from here on is good for nothing but waiting for the end.
  // False: the client is gone.
  [[nodiscard]] bool finish_sending();
  // What was read off the socket and not asked for is of no interest any more.
  void forget_buffered();
  // Whoever waits is sent on with an error; what is not waiting yet is not.
  void cancel();

  // --- for a stream ---
  // As sendmsg(): how many bytes were taken, or -1 and errno. It never waits. Of an encrypted one 0
  // means that only bytes taken before have left.
  [[nodiscard]] ssize_t send(iovec* pieces, std::size_t count) {
    if (tls_) return send_encrypted(pieces, count);
    constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
    // Of one piece the kernel is told without two structures that it has to read first: 80 ns.
    if (count == 1)
      return ::send(socket_.native_handle(), pieces->iov_base, pieces->iov_len, kFlags);
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = count;
    return ::sendmsg(socket_.native_handle(), &message, kFlags);
  }
  // Bytes were taken that the kernel has not got: wait, and send() again, with or without more.
  [[nodiscard]] bool unsent() const { return tls_ && tls_->unsent(); }

  // Throws away what the client says, a share of it at a time.
  enum class Input { open, closed, failed };
  [[nodiscard]] Input discard_input();

  // The handler is called once, from the shard's context, also when the connection is closed.
  template <class Handler>
  void wait_readable(Handler handler) {
    socket_.async_wait(Socket::wait_read, std::move(handler));
  }
  template <class Handler>
  void wait_writable(Handler handler) {
    socket_.async_wait(Socket::wait_write, std::move(handler));
  }
  template <class Handler>
  void wait_gone(Handler handler) {  // after Input::closed: the client is gone altogether
    socket_.async_wait(Socket::wait_error, std::move(handler));
  }

  void close();

 private:
  [[nodiscard]] ssize_t send_encrypted(const iovec* pieces, std::size_t count);
  [[nodiscard]] Input discard_encrypted();
  [[nodiscard]] asio::awaitable<error_code> wait_for(TlsSession::Status status);

  Socket socket_;
  std::unique_ptr<TlsSession> tls_;  // none: plain
  Peer peer_;
  bool tcp_ = false;
};

}  // namespace spillway::sse
