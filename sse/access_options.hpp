// Who may, as a server's owner sets it. Plain values.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace spillway::sse {

class KeyRing;

struct AccessOptions {
  // Keys that tokens are verified with; may be replaced while the server runs. None: there are no
  // tokens, and everybody may everything.
  std::shared_ptr<const KeyRing> keys;
  std::vector<std::string> public_channels;  // grants that need no token
  // Only requests whose Host names this machine, or one of these, are served. For a server without
  // keys that only this machine can reach; connections by a Unix socket are not asked.
  bool check_host = false;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors;  // origins whose pages may read answers; "*": all, without cookies
};

}  // namespace spillway::sse
