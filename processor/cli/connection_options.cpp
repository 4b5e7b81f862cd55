#include "processor/cli/connection_options.hpp"

#include <charconv>
#include <filesystem>
#include <stdexcept>

#include "processor/cli/commands.hpp"
#include "processor/cli/supervise.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

using std::chrono::milliseconds;

milliseconds duration_between(const std::string& text, const char* option, milliseconds least,
                              milliseconds most, const char* range) {
  const milliseconds duration = parse_duration(text, option);
  if (duration < least || duration > most)
    throw ConfigurationError(std::string(option) + " " + text + ": write " + range);
  return duration;
}

unsigned parse_mode(const std::string& text) {
  unsigned mode = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, mode, 8);
  if (text.size() < 3 || text.size() > 4 || parsed.ec != std::errc{} || parsed.ptr != end ||
      mode > 0777)
    throw ConfigurationError("--listen-mode " + text +
                             ": write the permissions of a file in octal, e.g. 0660");
  return mode;
}

}  // namespace

sse::Endpoint parse_endpoint(const std::string& text) {
  sse::Endpoint endpoint;
  if (text.starts_with("unix:")) {
    if (text.size() == 5)
      throw ConfigurationError("--listen unix: write a path too, e.g. unix:/run/spillway.sock");
    // Absolute: what the path is relative to may have changed by the time it is removed.
    endpoint.path = std::filesystem::absolute(text.substr(5)).string();
    return endpoint;
  }
  const std::size_t colon = text.rfind(':');
  unsigned port = 0;
  if (colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
    if (parsed.ec != std::errc{} || parsed.ptr != end) port = 65536;
  }
  if (colon == std::string::npos || colon == 0 || port > 65535)
    throw ConfigurationError(
        "--listen " + text +
        ": write HOST:PORT, e.g. 127.0.0.1:8080 or [::1]:8080, or unix:/path/to.sock");
  endpoint.host = text.substr(0, colon);
  if (endpoint.host.starts_with("[") && endpoint.host.ends_with("]"))
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  endpoint.port = static_cast<std::uint16_t>(port);
  return endpoint;
}

void ConnectionOptions::add_to(CLI::App& command) {
  command
      .add_option(
          "--listen", listen,
          "HOST:PORT (port 0 takes any free one), or unix:PATH; may be given more than once")
      ->capture_default_str();
  command.add_option("--listen-mode", listen_mode, "Permissions of Unix sockets, in octal")
      ->capture_default_str();
  command.add_option("--tls-cert", tls_cert,
                     "Certificate (PEM, intermediate ones behind it): TCP is encrypted with it");
  command.add_option("--tls-key", tls_key, "Its key (PEM, without a passphrase)");
  command
      .add_option("--trusted-proxy", trusted_proxy,
                  "Network (10.1.0.0/16) of proxies whose X-Forwarded-For is believed, or unix for "
                  "whoever comes by a Unix socket; may be given more than once")
      ->delimiter(',');
  command.add_option("--max-connections", max_connections, "Connections in all")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str();
  command
      .add_option("--max-connections-per-address", max_connections_per_address,
                  "Connections of one address (of one /64 with IPv6); 1000, and no limit for this "
                  "machine's own unless it is given")
      ->check(CLI::Range(1, 10000000));
  command
      .add_option("--max-header-bytes", max_header_bytes, "Size of a request's line and headers")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(1024, 1 << 20))
      ->default_str("8192");
  command.add_option("--max-body-bytes", max_body_bytes, "Size of a request's body")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(1024, 256 << 20))
      ->default_str("1048576");
  command
      .add_option("--header-timeout", header_timeout,
                  "How long a connection may take until a request's headers are here")
      ->capture_default_str();
  command
      .add_option("--body-timeout", body_timeout,
                  "How long a request's body may take, and an answer's way out")
      ->capture_default_str();
  command
      .add_option("--blocked-timeout", blocked_timeout,
                  "A stream whose client takes nothing for this long is ended")
      ->capture_default_str();
}

TlsFiles ConnectionOptions::tls_files() const {
  if (tls_cert.empty() != tls_key.empty())
    throw ConfigurationError(std::string(tls_cert.empty() ? "--tls-key" : "--tls-cert") +
                             " without " + (tls_cert.empty() ? "--tls-cert" : "--tls-key") +
                             ": write both, or none");
  return {tls_cert, tls_key};
}

void ConnectionOptions::apply(sse::ServerOptions& server) const {
  const unsigned mode = parse_mode(listen_mode);
  if (listen.empty() || listen.size() > SharedWithWorker::kListeners)
    throw ConfigurationError("--listen: write 1 to " +
                             std::to_string(SharedWithWorker::kListeners) + " of them");
  server.listen.clear();
  for (const std::string& text : listen) {
    server.listen.push_back(parse_endpoint(text));
    server.listen.back().mode = mode;
  }
  for (const std::string& network : trusted_proxy) {
    try {
      server.proxies.add(network);
    } catch (const std::invalid_argument& error) {
      throw ConfigurationError(std::string("--trusted-proxy: ") + error.what());
    }
  }
  server.max_connections = max_connections;
  if (max_connections_per_address) {
    server.max_connections_per_address = *max_connections_per_address;
    server.count_local_addresses = true;
  }
  server.header_bytes = max_header_bytes;
  server.body_bytes = max_body_bytes;
  const milliseconds least(100);
  const milliseconds hour(3'600'000);
  server.header_timeout = duration_between(header_timeout, "--header-timeout", least,
                                           milliseconds(600'000), "100ms to 10m");
  server.body_timeout =
      duration_between(body_timeout, "--body-timeout", least, hour, "100ms to 1h");
  server.blocked_timeout =
      duration_between(blocked_timeout, "--blocked-timeout", milliseconds(1000), hour, "1s to 1h");
}

}  // namespace spillway::cli
