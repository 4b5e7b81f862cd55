#include "sse/net.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace spillway::sse {
namespace {

// A stalled client then swallows 43 KB instead of 3.9 MB before it shows as stalled.
constexpr int kUnsentBytes = 16384;

// What was sent and is not acknowledged has no such limit, but grows with what the connection could
// carry once, up to net.ipv4.tcp_wmem (4 MB). With this one a client that took a lot and then falls
// silent costs half a megabyte at most (the kernel doubles it for its own needs), until
// TCP_USER_TIMEOUT ends it; and 200 KB on the way are 2 MB a second over 100 ms.
constexpr int kSendBuffer = 212992;

// A missing option costs comfort, not correctness, so failures are of no interest.
void set(int socket, int level, int name, int value) noexcept {
  ::setsockopt(socket, level, name, &value, sizeof value);
}

}  // namespace

void set_connection_options(int socket) noexcept {
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
}

void set_stream_options(int socket, std::chrono::milliseconds blocked_timeout) noexcept {
  set(socket, SOL_SOCKET, SO_SNDBUF, kSendBuffer);
  set(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentBytes);
  set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(blocked_timeout.count()));
  // With nothing to send (a heartbeat longer than that) the kernel asks whether the peer still is:
  // half of the time in silence, then three times.
  const auto seconds = static_cast<int>(blocked_timeout.count() / 1000);
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, std::max(1, seconds / 2));
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, seconds / 6));
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
}

}  // namespace spillway::sse
