// Where a server listens: an address and a port, or a Unix socket. A value.
#pragma once

#include <cstdint>
#include <string>

namespace spillway::sse {

struct Endpoint {
  std::string host = "127.0.0.1";  // an address, or a name that has one
  std::uint16_t port = 8080;       // 0: any free one
  std::string path;                // not empty: a Unix socket, and host and port mean nothing
  unsigned mode = 0660;            // of the Unix socket's file

  [[nodiscard]] bool is_unix() const { return !path.empty(); }
  [[nodiscard]] std::string text() const {  // "127.0.0.1:8080", "[::1]:8080", "unix:/run/x.sock"
    if (is_unix()) return "unix:" + path;
    const bool v6 = host.find(':') != std::string::npos && host.front() != '[';
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
  }
};

}  // namespace spillway::sse
