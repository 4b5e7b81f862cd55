// For whom a connection speaks: a proxy that is trusted names its clients in X-Forwarded-For,
// anybody else speaks for himself, whatever he sends. Filled before the server starts, then only
// read.
#pragma once

#include <string_view>
#include <vector>

#include "sse/network.hpp"
#include "sse/peer.hpp"

namespace spillway::sse {

class TrustedProxies {
 public:
  // A network, or "unix": whoever comes by a Unix socket. Throws std::invalid_argument with a
  // message that says what to write.
  void add(std::string_view network);

  [[nodiscard]] bool trusts(const Peer& peer) const;

  // The last address in `forwarded_for` that is no trusted proxy, or the first of all when they all
  // are. Each proxy appends whom it saw, so what stands before that is only what a client claims.
  // Where that address is missing or is none, the peer itself.
  [[nodiscard]] Peer client(const Peer& peer, std::string_view forwarded_for) const;

 private:
  std::vector<Network> networks_;
  bool unix_ = false;
};

}  // namespace spillway::sse
