// The connection of one client: what an HTTP session reads requests from and a stream writes to. It
// hides what kind of socket it is.
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
#include <string_view>
#include <utility>

#include "sse/net.hpp"
#include "sse/peer.hpp"

namespace spillway::sse {

class Connection {
 public:
  // Takes over the descriptor that accept4() gave, unless `error` says that it could not.
  Connection(asio::io_context& context, int descriptor, const Peer& peer, error_code& error);

  [[nodiscard]] const Peer& peer() const { return peer_; }
  [[nodiscard]] bool is_open() const { return socket_.is_open(); }
  void set_stream_options(std::chrono::milliseconds blocked_timeout) noexcept;

  // --- for a session ---
  // What was moved; nothing and no error: call again. End of input is asio::error::eof.
  struct Transfer {
    error_code error;
    std::size_t bytes = 0;
  };
  [[nodiscard]] asio::awaitable<Transfer> read_some(asio::mutable_buffer buffer);
  // All of it has left only once unsent() is false as well.
  [[nodiscard]] asio::awaitable<Transfer> write_some(std::string_view bytes);
  // No more will be written; reading goes on. False: the client is gone.
  [[nodiscard]] bool finish_sending();
  // Whoever waits is sent on with an error; what is not waiting yet is not.
  void cancel();

  // --- for a stream ---
  // As sendmsg(): how many bytes were taken, or -1 and errno. It never waits.
  [[nodiscard]] ssize_t send(iovec* pieces, std::size_t count) {
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = count;
    return ::sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  // Bytes were taken that the kernel has not got: wait, and send() again, with or without more.
  [[nodiscard]] bool unsent() const { return false; }

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
  Socket socket_;
  Peer peer_;
};

}  // namespace spillway::sse
