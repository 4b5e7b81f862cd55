#include "sse/channel_name.hpp"

#include <algorithm>

#include "sse/utf8.hpp"

namespace spillway::sse {
namespace {

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7F;
}

}  // namespace

std::string problem_of_text(std::string_view name) {
  if (name.empty()) return "is empty; write a name like CommentStream:item:42";
  if (name.size() > kChannelNameBytes)
    return "is longer than " + std::to_string(kChannelNameBytes) + " bytes";
  if (std::any_of(name.begin(), name.end(), is_control))
    return "contains a control character, such as a line break";
  if (!valid_utf8(name)) return "is not valid UTF-8";
  return {};
}

std::string problem_of_channel(std::string_view name) {
  if (auto problem = problem_of_text(name); !problem.empty()) return problem;
  if (name == "*" || pattern_prefix(name))
    return "is a pattern, which only subscribers can name; write one channel's name, such as "
           "CommentStream:item:42";
  return {};
}

std::string problem_of_subscription(std::string_view name) {
  if (auto problem = problem_of_text(name); !problem.empty()) return problem;
  if (name == "*" || name == ":*")
    return "is a pattern without a prefix; write one that ends in \":*\", such as CommentStream:*";
  return {};
}

std::optional<std::string_view> pattern_prefix(std::string_view name) {
  if (!name.ends_with(":*")) return std::nullopt;
  return name.substr(0, name.size() - 1);
}

bool listens_to(std::string_view wanted, std::string_view channel) {
  const auto prefix = pattern_prefix(wanted);
  return prefix ? channel.starts_with(*prefix) : wanted == channel;
}

}  // namespace spillway::sse
