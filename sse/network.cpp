#include "sse/network.hpp"

#include <charconv>
#include <stdexcept>
#include <string>

namespace spillway::sse {
namespace {

namespace ip = boost::asio::ip;

}  // namespace

Network::Network(std::string_view cidr) {
  const auto wrong = [&](const char* problem) {
    return std::invalid_argument(std::string(cidr) + " " + problem +
                                 "; write a network such as 10.1.0.0/16 or fd00::/8");
  };
  const std::size_t slash = cidr.find('/');
  boost::system::error_code error;
  address_ = ip::make_address(std::string(cidr.substr(0, slash)), error);
  if (error) throw wrong("is not an address");
  if (address_.is_v6() && address_.to_v6().scope_id() != 0) throw wrong("names an interface");
  const unsigned most = address_.is_v4() ? 32 : 128;
  bits_ = most;
  if (slash == std::string_view::npos) return;
  const std::string_view digits = cidr.substr(slash + 1);
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, bits_);
  if (parsed.ec != std::errc{} || parsed.ptr != end || bits_ > most)
    throw wrong("has a prefix length that is not one");
}

bool Network::contains(const ip::address& address) const {
  if (address.is_v4() != address_.is_v4()) return false;
  return address.is_v4()
             ? same_prefix(address.to_v4().to_bytes(), address_.to_v4().to_bytes(), bits_)
             : same_prefix(address.to_v6().to_bytes(), address_.to_v6().to_bytes(), bits_);
}

}  // namespace spillway::sse
