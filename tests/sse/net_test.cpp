// What the sockets of streams are told.
#include "sse/net.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace spillway::sse::test {
namespace {

int option(int socket, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(socket, level, name, &value, &size);
  return value;
}

TEST(Net, AStreamsSocketHoldsLittleInTheKernelAndDiesWithItsPeer) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_GE(socket, 0);
  set_stream_options(socket, std::chrono::seconds(30));
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 16384);
  EXPECT_LE(option(socket, SOL_SOCKET, SO_SNDBUF), 512 << 10);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
  EXPECT_EQ(option(socket, SOL_SOCKET, SO_KEEPALIVE), 1);
  ::close(socket);
}

}  // namespace
}  // namespace spillway::sse::test
