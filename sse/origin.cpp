#include "sse/origin.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <charconv>

namespace spillway::sse {
namespace {

constexpr std::string_view kEvery = "*";

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
}

bool is_ipv6(std::string_view text) {
  if (text.find('%') != std::string_view::npos) return false;  // a zone is nobody else's business
  boost::system::error_code error;
  static_cast<void>(boost::asio::ip::make_address_v6(std::string(text), error));
  return !error;
}

bool lists(const std::vector<std::string>& listed, std::string_view origin) {
  return std::find(listed.begin(), listed.end(), origin) != listed.end();
}

// nullopt: no scheme that pages have, or no host.
struct Origin {
  std::string_view scheme;
  Authority authority;
};
std::optional<Origin> parse_origin(std::string_view text) {
  for (const std::string_view scheme : {"http", "https"}) {
    if (!text.starts_with(scheme) || !text.substr(scheme.size()).starts_with("://")) continue;
    const auto authority = parse_authority(text.substr(scheme.size() + 3));
    if (!authority) return std::nullopt;
    return Origin{scheme, *authority};
  }
  return std::nullopt;
}

std::uint16_t default_port(std::string_view scheme) {
  return scheme == "https" ? 443 : 80;
}

// Host and port as in Host. A proxy may have taken TLS off, so the scheme does not count, but for
// what the port is where none is written.
bool is_same(std::string_view origin, std::string_view host) {
  const auto page = parse_origin(origin);
  const auto here = parse_authority(host);
  if (!page || !here || page->authority.host != here->host) return false;
  const std::uint16_t usual = default_port(page->scheme);
  return page->authority.port.value_or(usual) == here->port.value_or(usual);
}

}  // namespace

std::optional<Authority> parse_authority(std::string_view text) {
  Authority out;
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos || !is_ipv6(text.substr(1, end - 1))) return std::nullopt;
    out.host = lower(text.substr(1, end - 1));
    rest = text.substr(end + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    if (!is_name(text.substr(0, colon))) return std::nullopt;
    out.host = lower(text.substr(0, colon));
    rest = text.substr(colon);
  }
  if (rest.empty()) return out;
  std::uint16_t port = 0;
  const auto parsed = std::from_chars(rest.data() + 1, rest.data() + rest.size(), port);
  if (rest.front() != ':' || parsed.ec != std::errc{} || parsed.ptr != rest.data() + rest.size())
    return std::nullopt;
  out.port = port;
  return out;
}

bool names_loopback(std::string_view host) {
  if (host == "localhost") return true;
  // An address, not a name that only begins like one.
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(std::string(host), error);
  return !error && address.is_loopback();
}

bool is_own_host(std::string_view host, const std::vector<std::string>& allowed) {
  if (host.empty()) return true;
  const auto authority = parse_authority(host);
  if (!authority) return false;
  return names_loopback(authority->host) ||
         std::any_of(allowed.begin(), allowed.end(),
                     [&](const std::string& name) { return lower(name) == authority->host; });
}

std::string problem_of_host_name(std::string_view name) {
  if (is_name(name) || is_ipv6(name)) return {};
  return "is not the name of a host; write it as in a URL, without scheme and port, such as "
         "streams.example.com";
}

std::string problem_of_origin(std::string_view origin) {
  if (origin == kEvery) return {};
  const std::string example =
      "write scheme://host or scheme://host:port, such as "
      "https://app.example.com, or \"*\" for every origin";
  if (origin == "null")
    return "stands for pages that are nobody's, sandboxed ones and files; " + example;
  if (origin.ends_with('/')) return "ends with a slash, which no browser sends; " + example;
  const auto parsed = parse_origin(origin);
  if (!parsed) return "is not an origin; " + example;
  if (origin != lower(origin)) return "has capital letters, which no browser sends; " + example;
  if (parsed->authority.port == default_port(parsed->scheme))
    return "names the usual port, which no browser sends; leave it out";
  return {};
}

OriginKind origin_kind(const RequestHead& head, const std::vector<std::string>& listed) {
  if (head.origin.empty()) return OriginKind::none;
  if (lists(listed, head.origin) && head.origin != kEvery) return OriginKind::listed;
  if (is_same(head.origin, head.host)) return OriginKind::same;
  return lists(listed, kEvery) ? OriginKind::any : OriginKind::foreign;
}

Headers cors_headers(const RequestHead& head, OriginKind kind,
                     const std::vector<std::string>& listed) {
  Headers headers;
  if (listed.empty()) return headers;
  if (kind == OriginKind::listed) {
    headers.emplace_back("Access-Control-Allow-Origin", head.origin);
    headers.emplace_back("Access-Control-Allow-Credentials", "true");
  } else if (lists(listed, kEvery)) {
    headers.emplace_back("Access-Control-Allow-Origin", kEvery);
  }
  if (kind == OriginKind::listed || kind == OriginKind::any)
    headers.emplace_back("Access-Control-Expose-Headers", "X-Total-Count, Retry-After");
  // The same URL is answered otherwise to another page: a cache has to know.
  if (listed.size() > 1 || listed.front() != kEvery) headers.emplace_back("Vary", "Origin");
  return headers;
}

Headers preflight_headers(std::string methods) {
  return {
      {"Access-Control-Allow-Methods", std::move(methods)},
      {"Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, Cache-Control"},
      {"Access-Control-Max-Age", "600"}};
}

}  // namespace spillway::sse
