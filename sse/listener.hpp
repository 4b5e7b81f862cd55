// Listens on one address and hands out accepted sockets, on the thread of the context it is given.
// Survives running out of file descriptors: it pauses and goes on.
//
// The constructor binds and throws std::system_error naming the address; the rest belongs to the
// context's thread. `accepted` takes the descriptor over.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "sse/net.hpp"
#include "sse/peer.hpp"

namespace spillway::sse {

class Listener {
 public:
  Listener(asio::io_context& context, const std::string& host, std::uint16_t port,
           std::function<void(int, const Peer&)> accepted);

  [[nodiscard]] std::uint16_t port() const { return port_; }
  void start() { wait(); }
  void close();

 private:
  using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, asio::io_context::executor_type>;

  void wait();
  void accept_some();
  bool accept_waiting();
  void pause();

  Acceptor acceptor_;
  asio::steady_timer pause_;
  std::function<void(int, const Peer&)> accepted_;
  std::uint16_t port_ = 0;
  bool closed_ = false;
};

}  // namespace spillway::sse
