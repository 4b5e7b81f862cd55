#include "tests/bench/nchan_publisher.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <stdexcept>
#include <string_view>

namespace spillway::bench {

NchanPublisher::NchanPublisher(std::uint16_t port, std::size_t bytes)
    : body_(bytes, 'x'), port_(port), socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(socket_);
    throw std::runtime_error("Nchan cannot be reached");
  }
  const int one = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

NchanPublisher::~NchanPublisher() {
  ::close(socket_);
}

void NchanPublisher::publish(std::size_t burst, std::size_t channels) const {
  std::string requests;
  for (std::size_t i = 0; i < burst; ++i)
    for (std::size_t channel = 0; channel < channels; ++channel)
      requests +=
          "POST /pub/" + std::to_string(channel) +
          " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port_) +
          "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body_.size()) +
          "\r\n\r\n" + body_;
  for (std::string_view left = requests; !left.empty();) {
    const ssize_t n = ::send(socket_, left.data(), left.size(), MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("Nchan hung up");
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  // The answers are of no interest, but must not fill the socket.
  std::array<char, 65536> ignored;
  while (::recv(socket_, ignored.data(), ignored.size(), MSG_DONTWAIT) > 0) {
  }
}

}  // namespace spillway::bench
