// What a grant allows, by examples and by search: never a channel that it does not name.
#include "sse/channel_pattern.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "sse/address.hpp"
#include "sse/channel_name.hpp"

namespace spillway::sse {
namespace {

TEST(ChannelPattern, AGrantAllowsItsChannelOrAllOfItsPrefix) {
  EXPECT_TRUE(covers("CommentStream:item:42", "CommentStream:item:42"));
  EXPECT_FALSE(covers("CommentStream:item:42", "CommentStream:item:421"));
  EXPECT_FALSE(covers("CommentStream:item:42", "CommentStream:item:4"));
  EXPECT_FALSE(covers("CommentStream:item:42", "CommentStream:*"));
  EXPECT_TRUE(covers("CommentStream:*", "CommentStream:item:42"));
  EXPECT_TRUE(covers("CommentStream:*", "CommentStream:"));
  EXPECT_TRUE(covers("CommentStream:*", "CommentStream:*"));
  EXPECT_TRUE(covers("CommentStream:*", "CommentStream:item:*"));
  EXPECT_FALSE(covers("CommentStream:item:*", "CommentStream:*"));
  EXPECT_FALSE(covers("CommentStream:item:*", "CommentStream:item"));
  EXPECT_FALSE(covers("CommentStream:*", "CommentStream"));
  EXPECT_FALSE(covers("CommentStream:*", "CommentStreams:1"));
  EXPECT_TRUE(covers("*", "anything"));
  EXPECT_TRUE(covers("*", "Any:*"));
}

TEST(ChannelPattern, AStarElsewhereAllowsNothing) {
  for (const char* grant : {"", ":*", "**", "*:*", "Comment*", "Comment*:*", "*Comment", "A:*:B",
                            "A:*:*", "A:**", " *", "* ", "A:* ", ".*", "%2A", "?"}) {
    for (const char* wanted : {"Comment:1", "CommentStream:1", "A:1:B", "A:x", "A:*", ":x", "x",
                               "A:*:B", "A:*:*", "Comment*", "*:*", "**"})
      EXPECT_FALSE(covers(std::string_view(grant), wanted)) << grant << " / " << wanted;
  }
}

TEST(ChannelPattern, NamesAreComparedByteForByte) {
  EXPECT_FALSE(covers("Comment:1", "comment:1"));
  EXPECT_FALSE(covers("Comment:*", "COMMENT:1"));
  EXPECT_FALSE(covers("Café:*", "Cafe\xCC\x81:1"));       // é, composed and not
  EXPECT_FALSE(covers("Comment:*", "\xD0\xA1omment:1"));  // a Cyrillic letter that looks like C
  EXPECT_FALSE(covers("Comment:*",
                      "Comment\xEF\xBC\x9A"
                      "1"));  // a full-width colon
  EXPECT_FALSE(covers("Comment:1", std::string_view("Comment:1\0", 10)));
  EXPECT_FALSE(covers("A:b/*", "A:b/c"));
  EXPECT_FALSE(covers("A:x:*", "A:x/../y:1"));
  EXPECT_FALSE(covers("A:y:1", "A:x/../y:1"));
  EXPECT_FALSE(covers("A:../*", "A:../b"));
  EXPECT_TRUE(covers("Café:*", "Café:1"));
}

TEST(ChannelPattern, AnyOfSeveralGrantsWillDoButTwoHalvesAreNoWhole) {
  const std::vector<std::string> grants{"A:1", "B:*", "C*"};
  EXPECT_TRUE(covers(grants, "A:1"));
  EXPECT_TRUE(covers(grants, "B:x:*"));
  EXPECT_FALSE(covers(grants, "C:1"));
  EXPECT_FALSE(covers(grants, "A:*"));
  EXPECT_FALSE(covers(std::vector<std::string>{}, "A:1"));
}

TEST(ChannelPattern, WhatAGrantMayNotBeIsSaid) {
  for (const char* good : {"*", "A", "A:1", "A:*", "A:b:*", "Café:*", "::*"})
    EXPECT_EQ(problem_of_grant(good), "") << good;
  for (const char* bad : {"", ":*", "**", "Comment*", "A:*:B", "A:**", "*:1", "A\n:1", "\xFF:1"})
    EXPECT_NE(problem_of_grant(bad), "") << bad;
  EXPECT_NE(problem_of_grant("Comment*").find("CommentStream:*"), std::string::npos);
}

// --- by search ---

// What a grant means, said once more in another way.
bool allows(const std::string& grant, const std::string& channel) {
  std::size_t stars = 0;
  for (const char c : grant) stars += c == '*' ? 1 : 0;
  if (grant == "*") return true;
  if (stars == 0) return !grant.empty() && grant == channel;
  if (stars > 1 || grant.size() < 3 || grant.substr(grant.size() - 2) != ":*") return false;
  return channel.compare(0, grant.size() - 1, grant, 0, grant.size() - 1) == 0;
}

void every_text(std::size_t longest, const std::function<void(const std::string&)>& visit) {
  const std::string alphabet = "ab:*";
  std::vector<std::string> texts{""};
  for (std::size_t length = 0; length < longest; ++length) {
    std::vector<std::string> longer;
    for (const std::string& text : texts)
      for (const char c : alphabet) longer.push_back(text + c);
    for (const std::string& text : longer) visit(text);
    texts = std::move(longer);
  }
}

TEST(ChannelPattern, ARequestIsGrantedOnlyIfEveryChannelItCanDeliverIs) {
  std::vector<std::string> channels;
  every_text(5, [&](const std::string& text) { channels.push_back(text); });
  std::mt19937 random(20);
  const auto text = [&](std::size_t most) {
    std::string out;
    for (std::size_t n = random() % (most + 1); n > 0; --n) out += "ab:*"[random() % 4];
    return out;
  };
  std::size_t granted = 0;
  std::size_t refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> grants;
    for (std::size_t n = random() % 4; n > 0; --n)
      grants.push_back(random() % 2 ? text(3) + ":*" : text(4));
    const std::string name = random() % 2 ? text(3) + ":*" : text(4);
    // As a request would bring it; what is no channel is refused before.
    std::string query = "channel=";
    for (const char c : name) query += c == '*' ? "%2A" : std::string(1, c);
    const auto address = parse_address("/sse", query, 100);
    const auto* wanted = std::get_if<Channels>(&address);
    if (wanted == nullptr) continue;
    const bool yes = covers(grants, wanted->front());
    ++(yes ? granted : refused);
    bool all = true;
    for (const std::string& channel : channels) {
      const auto prefix = pattern_prefix(wanted->front());
      if (prefix ? !channel.starts_with(*prefix) : channel != wanted->front()) continue;
      const bool allowed = std::any_of(grants.begin(), grants.end(),
                                       [&](const auto& grant) { return allows(grant, channel); });
      ASSERT_TRUE(allowed || !yes) << wanted->front() << " delivers " << channel;
      all = all && allowed;
    }
    // An exact channel that is allowed is not refused either.
    ASSERT_TRUE(yes || !all || pattern_prefix(wanted->front())) << wanted->front();
  }
  EXPECT_GT(granted, 500u);
  EXPECT_GT(refused, 500u);
}

}  // namespace
}  // namespace spillway::sse
