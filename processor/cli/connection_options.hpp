// The options of `run` and `dev` about connections: where to listen, whom to trust, what one client
// may take.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "processor/tls_files.hpp"
#include "sse/server.hpp"

namespace spillway::cli {

// --listen: HOST:PORT, or unix:PATH. Throws ConfigurationError with what to write.
[[nodiscard]] sse::Endpoint parse_endpoint(const std::string& text);

struct ConnectionOptions {
  std::vector<std::string> listen{"127.0.0.1:8080"};
  std::string listen_mode = "0660";
  std::string tls_cert;
  std::string tls_key;
  std::vector<std::string> trusted_proxy;
  std::size_t max_connections = 20000;
  std::optional<std::size_t> max_connections_per_address;
  std::size_t max_header_bytes = 8192;
  std::size_t max_body_bytes = 1u << 20;
  std::string header_timeout = "10s";
  std::string body_timeout = "30s";
  std::string blocked_timeout = "30s";

  void add_to(CLI::App& command);

  // Throws ConfigurationError for what is not understood.
  void apply(sse::ServerOptions& server) const;
  [[nodiscard]] TlsFiles tls_files() const;
};

}  // namespace spillway::cli
