#include "sse/address.hpp"

#include <algorithm>

#include "sse/channel_name.hpp"

namespace spillway::sse {
namespace {

constexpr std::string_view kRoot = "/sse";
constexpr std::string_view kForms =
    "write /sse/{stream_type}/{channel} or /sse?channel={stream_type}:{channel}";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// What stands before the first `separator`, and what stands behind it.
std::pair<std::string_view, std::string_view> cut(std::string_view text, char separator) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == separator) return {text.substr(0, i), text.substr(i + 1)};
  }
  return {text, {}};
}

// Until `visit` returns false.
template <class Visit>
void for_each_parameter(std::string_view query, Visit visit) {
  while (!query.empty()) {
    const auto [parameter, others] = cut(query, '&');
    query = others;
    const auto [key, value] = cut(parameter, '=');
    if (!visit(key, value)) return;
  }
}

bool is_absolute(std::string_view target) {
  return target.starts_with("http://") || target.starts_with("https://");
}

constexpr std::string_view kBadEncoding =
    "bad percent-encoding; write \"%\" and two hexadecimal digits (\"%\" itself is %25)";

std::variant<Channels, AddressError> from_path(std::string_view rest) {
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == rest.size())
    return AddressError{"a stream needs a type and a channel; " + std::string(kForms)};
  const auto type = percent_decode(rest.substr(0, slash), false);
  const auto channel = percent_decode(rest.substr(slash + 1), false);
  if (!type || !channel) return AddressError{std::string(kBadEncoding)};
  std::string name = *type + ":" + *channel;
  if (const auto problem = problem_of_subscription(name); !problem.empty())
    return AddressError{"the channel " + problem};
  return Channels{std::move(name)};
}

std::variant<Channels, AddressError> from_query(std::string_view query, std::size_t most) {
  Channels channels;
  std::string wrong;
  for_each_parameter(query, [&](std::string_view key, std::string_view value) {
    if (key != "channel") return true;
    auto name = percent_decode(value, true);
    wrong = name ? problem_of_subscription(*name) : std::string(kBadEncoding);
    if (!wrong.empty()) {
      if (name) wrong = "the channel " + wrong;
      return false;
    }
    if (std::find(channels.begin(), channels.end(), *name) != channels.end()) return true;
    if (channels.size() == most) {
      wrong = "too many channels; write at most " + std::to_string(most) +
              ", or one pattern such as CommentStream:*";
      return false;
    }
    channels.push_back(std::move(*name));
    return true;
  });
  if (!wrong.empty()) return AddressError{std::move(wrong)};
  if (channels.empty()) return AddressError{"no channel is named; " + std::string(kForms)};
  return channels;
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      if (text.size() - i < 3) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

std::string query_value(std::string_view query, std::string_view name) {
  std::string found;
  for_each_parameter(query, [&](std::string_view key, std::string_view value) {
    if (key != name) return true;
    found = percent_decode(value, true).value_or("");
    return false;
  });
  return found;
}

std::pair<std::string_view, std::string_view> split_target(std::string_view target) {
  if (is_absolute(target)) {
    const std::size_t path = target.find_first_of("/?", target.find("//") + 2);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  return cut(cut(target, '#').first, '?');
}

std::string_view target_authority(std::string_view target) {
  if (!is_absolute(target)) return {};
  target.remove_prefix(target.find("//") + 2);
  return target.substr(0, target.find_first_of("/?#"));
}

bool is_stream_path(std::string_view raw_path) {
  return raw_path == kRoot || (raw_path.starts_with(kRoot) && raw_path[kRoot.size()] == '/');
}

std::variant<Channels, AddressError> parse_address(std::string_view raw_path,
                                                   std::string_view raw_query, std::size_t most) {
  std::string_view rest = raw_path.substr(std::min(kRoot.size(), raw_path.size()));
  if (rest.empty() || rest == "/") return from_query(raw_query, most);
  return from_path(rest.substr(1));
}

}  // namespace spillway::sse
