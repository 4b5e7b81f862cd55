// A network of IP addresses: "10.1.0.0/16", "fd00::/8", or an address alone. A value.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <cstddef>
#include <string_view>

namespace spillway::sse {

// Whether two addresses, as arrays of bytes, begin with the same `bits`.
template <class Bytes>
bool same_prefix(const Bytes& a, const Bytes& b, unsigned bits) {
  for (std::size_t i = 0; i < a.size() && bits > 0; ++i) {
    const unsigned here = bits < 8 ? bits : 8;
    const auto mask = static_cast<unsigned>(0xff00u >> here) & 0xffu;
    if ((a[i] & mask) != (b[i] & mask)) return false;
    bits -= here;
  }
  return true;
}

class Network {
 public:
  // Throws std::invalid_argument with a message that says what to write.
  explicit Network(std::string_view cidr);

  [[nodiscard]] bool contains(const boost::asio::ip::address& address) const;

 private:
  boost::asio::ip::address address_;
  unsigned bits_ = 0;
};

}  // namespace spillway::sse
