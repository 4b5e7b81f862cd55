#include "sse/trusted_proxies.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

namespace spillway::sse {
namespace {

namespace ip = boost::asio::ip;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// "192.0.2.1", "2001:db8::1", and with the port that some proxies add: "192.0.2.1:4711",
// "[2001:db8::1]:4711".
std::optional<Peer> address_in(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with("[")) {
    text = text.substr(1, text.find(']') - 1);
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    text = text.substr(0, text.find(':'));
  }
  boost::system::error_code error;
  const ip::address address = ip::make_address(std::string(text), error);
  if (error || (address.is_v6() && address.to_v6().scope_id() != 0)) return std::nullopt;
  return Peer(address);
}

}  // namespace

void TrustedProxies::add(std::string_view network) {
  if (network == "unix") {
    unix_ = true;
    return;
  }
  try {
    networks_.emplace_back(network);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string(error.what()) +
                                ", or unix for whoever comes by a Unix socket");
  }
}

bool TrustedProxies::trusts(const Peer& peer) const {
  if (peer.is_unix()) return unix_;
  return std::any_of(networks_.begin(), networks_.end(),
                     [&](const Network& network) { return network.contains(*peer.address()); });
}

Peer TrustedProxies::client(const Peer& peer, std::string_view forwarded_for) const {
  if (!trusts(peer) || trimmed(forwarded_for).empty()) return peer;
  for (;;) {
    const std::size_t comma = forwarded_for.rfind(',');
    const bool first = comma == std::string_view::npos;
    const auto named = address_in(first ? forwarded_for : forwarded_for.substr(comma + 1));
    if (!named) return peer;
    if (first || !trusts(*named)) return *named;
    forwarded_for = forwarded_for.substr(0, comma);
  }
}

}  // namespace spillway::sse
