#include "effects/webhook_url.hpp"

#include <algorithm>
#include <charconv>

namespace spillway {
namespace {

constexpr std::size_t max_host_bytes = 253;  // of a name in the DNS

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_hex(char c) {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f');
}
bool is_name_character(char c) {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || c == '-' || c == '.' || c == '_';
}

bool starts_with_scheme(std::string_view text, std::string_view scheme) {
  return text.size() >= scheme.size() && std::equal(scheme.begin(), scheme.end(), text.begin(),
                                                    [](char a, char b) { return a == lower(b); });
}

}  // namespace

std::string WebhookUrl::authority() const {
  std::string text = ipv6 ? "[" + host + "]" : host;
  if (port != (tls ? 443 : 80)) text += ":" + std::to_string(port);
  return text;
}

bool parse_webhook_url(std::string_view text, WebhookUrl& url, std::string& problem) {
  const auto fail = [&](const char* what) {
    problem = what;
    return false;
  };
  if (text.size() > max_webhook_url_bytes) return fail("is longer than 2048 bytes");
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f || c == '\\')
      return fail("holds a character that a URL cannot hold; write it percent-encoded");
  }
  url = {};
  if (starts_with_scheme(text, "https://"))
    url.tls = true;
  else if (!starts_with_scheme(text, "http://"))
    return fail("must begin with http:// or https://");
  text.remove_prefix(url.tls ? 8 : 7);

  std::string_view authority = text.substr(0, text.find_first_of("/?#"));
  text.remove_prefix(authority.size());
  if (authority.find('@') != std::string_view::npos)
    return fail("must not hold a user or password; put them into headers");

  std::string_view host;
  if (authority.starts_with("[")) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) return fail("has a bracket that is not closed");
    host = authority.substr(1, end - 1);
    authority.remove_prefix(end + 1);
    url.ipv6 = true;
    if (host.find(':') == std::string_view::npos ||
        !std::all_of(host.begin(), host.end(),
                     [](char c) { return is_hex(c) || c == ':' || c == '.'; }))
      return fail("has brackets around something that is not an IPv6 address");
  } else {
    host = authority.substr(0, authority.find(':'));
    authority.remove_prefix(host.size());
    if (!std::all_of(host.begin(), host.end(), is_name_character))
      return fail("has a host with characters that a host name cannot hold");
  }
  if (host.empty()) return fail("has no host");
  if (host.size() > max_host_bytes) return fail("has a host name of more than 253 bytes");
  std::transform(host.begin(), host.end(), std::back_inserter(url.host), lower);

  url.port = url.tls ? 443 : 80;
  if (!authority.empty()) {
    if (authority.front() != ':') return fail("has something behind its host that is not a port");
    authority.remove_prefix(1);
    const char* end = authority.data() + authority.size();
    const auto parsed = std::from_chars(authority.data(), end, url.port);
    if (parsed.ec != std::errc{} || parsed.ptr != end || url.port == 0)
      return fail("has a port that is not a number from 1 to 65535");
  }

  // The part behind # is the client's own; it is not sent.
  url.target = text.substr(0, text.find('#'));
  if (!url.target.starts_with("/")) url.target.insert(0, "/");
  return true;
}

}  // namespace spillway
