#include "processor/address_policy.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace spillway {
namespace {

namespace ip = boost::asio::ip;

// The IANA special-purpose registries. Everything that is not globally reachable, or that leads to
// another address by way of a translator.
struct Range4 {
  std::uint32_t network;
  unsigned bits;
  const char* name;
};
constexpr std::uint32_t v4(unsigned a, unsigned b, unsigned c, unsigned d) {
  return a << 24 | b << 16 | c << 8 | d;
}
constexpr std::array ranges4{
    Range4{v4(0, 0, 0, 0), 8, "unspecified"},
    Range4{v4(10, 0, 0, 0), 8, "a private network"},
    Range4{v4(100, 64, 0, 0), 10, "a carrier's shared network"},
    Range4{v4(127, 0, 0, 0), 8, "loopback"},
    Range4{v4(169, 254, 0, 0), 16, "link-local"},
    Range4{v4(172, 16, 0, 0), 12, "a private network"},
    Range4{v4(192, 0, 0, 0), 24, "reserved"},
    Range4{v4(192, 0, 2, 0), 24, "reserved"},
    Range4{v4(192, 88, 99, 0), 24, "a relay"},
    Range4{v4(192, 168, 0, 0), 16, "a private network"},
    Range4{v4(198, 18, 0, 0), 15, "reserved"},
    Range4{v4(198, 51, 100, 0), 24, "reserved"},
    Range4{v4(203, 0, 113, 0), 24, "reserved"},
    Range4{v4(224, 0, 0, 0), 4, "multicast"},
    Range4{v4(240, 0, 0, 0), 4, "reserved"},
};

struct Range6 {
  std::array<std::uint8_t, 6> prefix;  // the rest is zero
  unsigned bits;
  const char* name;
};
// Within 2000::/3, the only part that is in use for global unicast.
constexpr std::array ranges6{
    Range6{{0x20, 0x01}, 23, "reserved"},  // protocol assignments, Teredo among them
    Range6{{0x20, 0x01, 0x0d, 0xb8}, 32, "reserved"},
    Range6{{0x20, 0x02}, 16, "a relay"},  // 6to4
    Range6{{0x3f, 0xff}, 20, "reserved"},
};

std::string kind_of(const ip::address_v4& address) {
  for (const Range4& range : ranges4)
    if (address.to_uint() >> (32 - range.bits) == range.network >> (32 - range.bits))
      return range.name;
  return {};
}

std::string kind_of(const ip::address_v6& address) {
  const auto bytes = address.to_bytes();
  if (address.is_unspecified()) return "unspecified";
  if (address.is_loopback()) return "loopback";
  if (address.is_v4_mapped()) return "an IPv4 address in disguise";
  if (address.is_multicast()) return "multicast";
  if (address.is_link_local()) return "link-local";
  if ((bytes[0] & 0xfeu) == 0xfcu) return "a private network";
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0u) == 0xc0u) return "a private network";  // site-local
  // NAT64 is how a network without IPv4 reaches all of it: judged by the address inside.
  constexpr std::array<std::uint8_t, 16> nat64{0x00, 0x64, 0xff, 0x9b};
  if (sse::same_prefix<std::array<std::uint8_t, 16>>(nat64, bytes, 96))
    return kind_of(ip::address_v4(v4(bytes[12], bytes[13], bytes[14], bytes[15])));
  if ((bytes[0] & 0xe0u) != 0x20u) return "reserved";
  for (const Range6& range : ranges6) {
    std::array<std::uint8_t, 6> start{};
    for (std::size_t i = 0; i < start.size(); ++i) start[i] = bytes[i];
    if (sse::same_prefix(start, range.prefix, range.bits)) return range.name;
  }
  return {};
}

}  // namespace

void AddressPolicy::allow(std::string_view cidr) {
  allowed_.emplace_back(cidr);
}

std::string AddressPolicy::refusal(const ip::address& address) const {
  for (const sse::Network& network : allowed_)
    if (network.contains(address)) return {};
  return address.is_v4() ? kind_of(address.to_v4()) : kind_of(address.to_v6());
}

}  // namespace spillway
