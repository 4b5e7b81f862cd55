// Which addresses webhooks may reach. Their URLs come from payloads, so what only this machine or
// its network can reach is refused: only globally routable unicast addresses pass, and those that
// the operator allows by --webhook-allow. Addresses are judged after resolving, never names.
// Immutable once filled; judging is pure and thread-safe.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sse/network.hpp"

namespace spillway {

class AddressPolicy {
 public:
  // "10.1.0.0/16", "fd00::/8", or an address alone. Throws std::invalid_argument with a message
  // that says what to write.
  void allow(std::string_view cidr);

  // Empty when the address may be reached, else what it is: "loopback", "a private network", …
  [[nodiscard]] std::string refusal(const boost::asio::ip::address& address) const;

 private:
  std::vector<sse::Network> allowed_;
};

}  // namespace spillway
