// Who is at the other end of a connection: an address without its port, or a process on this
// machine by way of a Unix socket. A value; an IPv4 address in IPv6's disguise is taken for what it
// is, so that one client is one peer whichever socket it came to.
#pragma once

#include <sys/socket.h>

#include <boost/asio/ip/address.hpp>
#include <optional>
#include <string>

namespace spillway::sse {

class Peer {
 public:
  Peer() = default;  // by a Unix socket
  explicit Peer(const boost::asio::ip::address& address);
  // Of accept4(); a family that is not IP is a Unix socket.
  explicit Peer(const sockaddr_storage& address);

  [[nodiscard]] bool is_unix() const { return !address_; }
  // nullopt: a Unix socket.
  [[nodiscard]] const std::optional<boost::asio::ip::address>& address() const { return address_; }
  [[nodiscard]] std::string text() const;  // "192.0.2.1", "2001:db8::1", "unix"

  bool operator==(const Peer&) const = default;

 private:
  std::optional<boost::asio::ip::address> address_;
};

}  // namespace spillway::sse
