#include "effects/webhook_headers.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "effects/names.hpp"

namespace spillway {
namespace {

// Of the connection, or set by the sender: another value would change where a message ends, whom it
// reaches, or whether a second delivery is recognized.
constexpr std::array<std::string_view, 13> reserved{
    "connection", "content-length",      "expect",           "host", "idempotency-key",
    "keep-alive", "proxy-authorization", "proxy-connection", "te",   "trailer",
    "trailers",   "transfer-encoding",   "upgrade"};

bool is_token_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_value_character(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return c == '\t' || (byte >= 0x20 && byte != 0x7f);
}

}  // namespace

std::string problem_of_webhook_headers(const std::map<std::string, std::string>& headers) {
  if (headers.size() > max_webhook_headers)
    return "holds " + std::to_string(headers.size()) + " headers; 32 at most";
  std::set<std::string> seen;
  for (const auto& [name, value] : headers) {
    if (name.empty()) return "holds a header without a name";
    if (name.size() > max_webhook_header_bytes || value.size() > max_webhook_header_bytes)
      return "holds a header of more than 4096 bytes";
    if (!std::all_of(name.begin(), name.end(), is_token_character))
      return "holds a name with characters that a header name cannot hold";
    std::string folded = name;
    for (char& c : folded)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (std::find(reserved.begin(), reserved.end(), folded) != reserved.end())
      return "may not set " + name + ", which the sender sets or leaves out";
    if (!std::all_of(value.begin(), value.end(), is_value_character) || !is_utf8(value))
      return "holds a value of " + name + " with a line break or another control character";
    if (!seen.insert(folded).second) return "names " + name + " twice";
  }
  return {};
}

}  // namespace spillway
