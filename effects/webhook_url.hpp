// The URL of a webhook, checked and taken apart. URLs come from payloads: what two readers could
// understand differently (user information, backslashes, control characters) is refused, not
// repaired. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

inline constexpr std::size_t max_webhook_url_bytes = 2048;

struct WebhookUrl {
  bool tls = false;
  std::string host;        // a name in lower case, or an address; IPv6 without brackets
  bool ipv6 = false;       // host is an IPv6 address
  std::uint16_t port = 0;  // always set
  std::string target;      // path and query, at least "/"

  // The Host header: the port only where it is not the scheme's own.
  [[nodiscard]] std::string authority() const;
};

// On failure `problem` says what is wrong.
[[nodiscard]] bool parse_webhook_url(std::string_view text, WebhookUrl& url, std::string& problem);

}  // namespace spillway
