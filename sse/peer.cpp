#include "sse/peer.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace spillway::sse {
namespace {

namespace ip = boost::asio::ip;

std::optional<ip::address> address_of(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &from, sizeof in);
    return ip::address_v4(ntohl(in.sin_addr.s_addr));
  }
  if (from.ss_family != AF_INET6) return std::nullopt;
  sockaddr_in6 in{};
  std::memcpy(&in, &from, sizeof in);
  ip::address_v6::bytes_type bytes;
  std::copy_n(std::begin(in.sin6_addr.s6_addr), bytes.size(), bytes.begin());
  return ip::address_v6(bytes);
}

}  // namespace

Peer::Peer(const ip::address& address) : address_(address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    address_ = ip::make_address_v4(ip::v4_mapped, address.to_v6());
}

Peer::Peer(const sockaddr_storage& address) {
  if (const auto found = address_of(address)) *this = Peer(*found);
}

std::string Peer::text() const {
  return address_ ? address_->to_string() : "unix";
}

}  // namespace spillway::sse
