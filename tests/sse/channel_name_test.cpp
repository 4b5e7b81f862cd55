#include "sse/channel_name.hpp"

#include <gtest/gtest.h>

#include "sse/address.hpp"

namespace spillway::sse {
namespace {

constexpr std::string_view kControl = "contains a control character, such as a line break";
constexpr std::string_view kPattern =
    "is a pattern, which only subscribers can name; write one channel's name, such as "
    "CommentStream:item:42";

TEST(ChannelName, AnyLineOfTextIsTakenAsItIsWritten) {
  for (const std::string name :
       {"CommentStream:item:42", "a", ":", ":b", "A:", " A: b ", " ", "A//b", "A:%41", "A:b+c",
        "Kanal:größe:日本", "A:*b", "A:b*", "**", "A:**", "A:* ", "\xC2\x85"}) {
    EXPECT_EQ(problem_of_channel(name), "") << name;
    EXPECT_EQ(problem_of_subscription(name), "") << name;
  }
  EXPECT_EQ(problem_of_channel(std::string(255, 'c')), "");
}

TEST(ChannelName, WhatNoFrameAndNoTableCanCarryIsRefusedAtBothEnds) {
  for (const auto problem_of : {problem_of_channel, problem_of_subscription}) {
    EXPECT_EQ(problem_of(""), "is empty; write a name like CommentStream:item:42");
    EXPECT_EQ(problem_of(std::string(256, 'c')), "is longer than 255 bytes");
    EXPECT_EQ(problem_of("ä" + std::string(254, 'c')), "is longer than 255 bytes");
    for (const char c : {'\n', '\r', '\0', '\t', '\x1f', '\x7f'})
      EXPECT_EQ(problem_of(std::string("a") + c), kControl) << int{c};
    for (const char* bad : {"\xFF", "\xC3(", "\xED\xA0\x80", "\xC0\x80", "a\xE2\x82"})
      EXPECT_EQ(problem_of(bad), "is not valid UTF-8");
  }
}

TEST(ChannelName, APatternIsForSubscribersAndNeedsAPrefix) {
  for (const std::string name : {"A:*", "A:b:*", "::*"}) {
    EXPECT_EQ(problem_of_channel(name), kPattern) << name;
    EXPECT_EQ(problem_of_subscription(name), "") << name;
  }
  for (const std::string name : {"*", ":*"}) {
    EXPECT_EQ(problem_of_channel(name), kPattern) << name;
    EXPECT_NE(problem_of_subscription(name).find("without a prefix; write"), std::string::npos);
  }
  EXPECT_EQ(pattern_prefix("A:b:*"), "A:b:");
  EXPECT_EQ(pattern_prefix("A:b*"), std::nullopt);
  EXPECT_EQ(pattern_prefix("A:b"), std::nullopt);
}

TEST(ChannelName, APatternCoversWhatStartsWithItsPrefix) {
  EXPECT_TRUE(listens_to("A:b", "A:b"));
  EXPECT_FALSE(listens_to("A:b", "A:bc"));
  EXPECT_TRUE(listens_to("A:*", "A:b"));
  EXPECT_TRUE(listens_to("A:*", "A:"));
  EXPECT_FALSE(listens_to("A:*", "A"));
  EXPECT_FALSE(listens_to("A:*", "AB:c"));
  EXPECT_FALSE(listens_to("A*", "A:b"));
}

// Whatever may be broadcast to can be subscribed to by its name, in both forms of the address.
TEST(ChannelName, EveryChannelHasAnAddress) {
  const auto encoded = [](std::string_view text) {
    constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      out += {'%', digits[byte >> 4], digits[byte & 15u]};
    }
    return out;
  };
  for (const std::string name : {"A:b", " A: b ", "A:b+c&d=e", "A/b:c//d", "A:%41", "A:größe",
                                 "A:?#", "A:b*", ":b", "A:", "plain"}) {
    ASSERT_EQ(problem_of_channel(name), "") << name;
    const auto by_query = parse_address("/sse", "channel=" + encoded(name), 1);
    ASSERT_TRUE(std::holds_alternative<Channels>(by_query)) << name;
    EXPECT_EQ(std::get<Channels>(by_query), Channels{name});
    const std::size_t colon = name.find(':');
    if (colon == std::string::npos || colon == 0 || colon + 1 == name.size()) continue;
    const auto by_path = parse_address(
        "/sse/" + encoded(name.substr(0, colon)) + "/" + encoded(name.substr(colon + 1)), "", 1);
    ASSERT_TRUE(std::holds_alternative<Channels>(by_path)) << name;
    EXPECT_EQ(std::get<Channels>(by_path), Channels{name});
  }
}

}  // namespace
}  // namespace spillway::sse
