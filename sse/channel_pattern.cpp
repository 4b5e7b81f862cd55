#include "sse/channel_pattern.hpp"

#include <algorithm>

#include "sse/channel_name.hpp"
#include "sse/utf8.hpp"

namespace spillway::sse {
namespace {

constexpr std::string_view kEvery = "*";

// Cheap: it is asked for each grant of each request.
bool means_something(std::string_view grant) {
  const std::size_t star = grant.find('*');
  if (star == std::string_view::npos) return !grant.empty();
  if (grant == kEvery) return true;
  const auto prefix = pattern_prefix(grant);
  return prefix && prefix->size() > 1 && star == grant.size() - 1;
}

}  // namespace

std::string problem_of_grant(std::string_view grant) {
  if (grant.empty()) return "is empty; write a channel, a pattern such as CommentStream:*, or *";
  if (!valid_utf8(grant)) return "is not UTF-8";
  if (std::any_of(grant.begin(), grant.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte == 0x7F;
      }))
    return "has control characters; leave them out";
  if (!means_something(grant))
    return "has a \"*\" where it means nothing; write a pattern as a prefix and \":*\", such as "
           "CommentStream:*, or * alone for every channel";
  return {};
}

bool covers(std::string_view grant, std::string_view wanted) {
  if (!means_something(grant)) return false;
  if (grant == kEvery) return true;
  // The prefix has no "*" in it, so it lies within a wanted pattern's prefix.
  if (const auto prefix = pattern_prefix(grant)) return wanted.starts_with(*prefix);
  return wanted == grant;
}

bool covers(const std::vector<std::string>& grants, std::string_view wanted) {
  return std::any_of(grants.begin(), grants.end(),
                     [&](const std::string& grant) { return covers(grant, wanted); });
}

}  // namespace spillway::sse
