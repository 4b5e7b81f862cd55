// Where a request comes from, as far as browsers say so: the Host it was sent to and the Origin of
// the page that sent it. Pure functions.
//
// Without tokens the network is the only guard, and a browser is inside of it: any page may make it
// ask 127.0.0.1. By its own name a page is kept out by the browser (CORS); by a name of its own
// that leads here (DNS rebinding) only the Host header tells.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sse/http_text.hpp"
#include "sse/request_head.hpp"

namespace spillway::sse {

// --- hosts ---

// "name:port", "127.0.0.1", "[::1]:8080"; the host in lower case, without brackets.
struct Authority {
  std::string host;
  std::optional<std::uint16_t> port;

  bool operator==(const Authority&) const = default;
};
[[nodiscard]] std::optional<Authority> parse_authority(std::string_view text);

// localhost, 127.0.0.0/8 or ::1, however a client writes them.
[[nodiscard]] bool names_loopback(std::string_view host);

// Whether `host` (a Host header) may be used to reach a server that only this machine can reach: by
// the machine's own names, or one of `allowed`. No Host at all is fine: browsers always send one.
[[nodiscard]] bool is_own_host(std::string_view host, const std::vector<std::string>& allowed);

// What is wrong with a host's name as an option; empty when nothing is. No port, no scheme.
[[nodiscard]] std::string problem_of_host_name(std::string_view name);

// --- origins ---

// What is wrong with an origin as an option; empty when nothing is: scheme://host[:port] as
// browsers send it, or "*".
[[nodiscard]] std::string problem_of_origin(std::string_view origin);

enum class OriginKind {
  none,     // the request has none: no browser, or a page's own GET
  same,     // the page came from here
  listed,   // named in the options
  any,      // not named, but "*" is
  foreign,  // none of these; also "null"
};

[[nodiscard]] OriginKind origin_kind(const RequestHead& head,
                                     const std::vector<std::string>& listed);

// What an answer tells the browser about who may read it. Empty while nothing is listed.
[[nodiscard]] Headers cors_headers(const RequestHead& head, OriginKind kind,
                                   const std::vector<std::string>& listed);
// What the answer to a preflight says besides. `methods` as in Allow.
[[nodiscard]] Headers preflight_headers(std::string methods);

}  // namespace spillway::sse
