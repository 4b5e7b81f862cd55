// Listens on one endpoint and hands out accepted sockets, on the thread of the context it is given.
// Survives running out of file descriptors: it pauses and goes on.
//
// The constructor binds and throws std::system_error naming the endpoint; the rest belongs to the
// context's thread. `accepted` takes the descriptor over.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "sse/endpoint.hpp"
#include "sse/net.hpp"
#include "sse/peer.hpp"
#include "sse/unix_socket.hpp"

namespace spillway::sse {

class Listener {
 public:
  Listener(asio::io_context& context, const Endpoint& endpoint,
           std::function<void(int, const Peer&)> accepted);

  // With the port that it has got.
  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  void start() { wait(); }
  void close();

 private:
  using Acceptor =
      asio::basic_socket_acceptor<asio::generic::stream_protocol, asio::io_context::executor_type>;

  void bind_address();
  void bind_file();
  void wait();
  void accept_some();
  bool accept_waiting();
  void pause();

  Endpoint endpoint_;
  Acceptor acceptor_;
  std::optional<UnixSocketFile> file_;
  asio::steady_timer pause_;
  std::function<void(int, const Peer&)> accepted_;
  bool closed_ = false;
};

}  // namespace spillway::sse
