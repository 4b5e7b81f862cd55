#include "processor/who_may.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace spillway {
namespace {

// One that others than this machine reach; none: nullptr.
const sse::Endpoint* exposed_endpoint(const sse::ServerOptions& server) {
  for (const sse::Endpoint& endpoint : server.listen)
    if (!endpoint.is_unix() && !is_loopback(endpoint.host)) return &endpoint;
  return nullptr;
}

}  // namespace

std::vector<sse::AuthKey> read_auth_keys(const std::vector<std::string>& files) {
  std::vector<sse::AuthKey> keys;
  for (const std::string& file : files) {
    try {
      keys.push_back(sse::verification_key(sse::read_key_file(file)));
    } catch (const sse::AuthKeyError& error) {
      throw ConfigurationError("--auth-key " + file + ": " + error.what());
    }
  }
  return keys;
}

std::shared_ptr<sse::KeyRing> make_key_ring(const WorkerOptions& options) {
  if (options.auth_keys.empty()) return nullptr;
  return std::make_shared<sse::KeyRing>(read_auth_keys(options.auth_keys));
}

void check_exposure(const WorkerOptions& options) {
  if (!options.auth_keys.empty()) return;
  const sse::Endpoint* exposed = exposed_endpoint(options.server);
  if (exposed != nullptr && !options.insecure)
    throw ConfigurationError("--listen " + exposed->text() +
                             ": without tokens the server listens on loopback only; give it a key "
                             "with --auth-key FILE, write --listen 127.0.0.1:PORT, or --insecure "
                             "if the network keeps strangers out");
  if (!options.public_channels.empty())
    spdlog::warn("--public says nothing without --auth-key: every channel is open");
  if (std::find(options.cors.begin(), options.cors.end(), "*") != options.cors.end())
    spdlog::warn(
        "--cors * without --auth-key: every web page that somebody on this machine opens can read "
        "every channel");
}

sse::AccessOptions access_options(const WorkerOptions& options,
                                  std::shared_ptr<const sse::KeyRing> keys) {
  sse::AccessOptions access;
  // Whoever needs a token cannot be led here by a name of somebody else's; and an address that
  // others reach has names that nobody told us.
  access.check_host = !keys && exposed_endpoint(options.server) == nullptr;
  access.keys = std::move(keys);
  access.public_channels = options.public_channels;
  access.allowed_hosts = options.allowed_hosts;
  access.cors = options.cors;
  return access;
}

}  // namespace spillway
