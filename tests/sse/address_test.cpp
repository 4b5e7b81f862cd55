#include "sse/address.hpp"

#include <gtest/gtest.h>

namespace spillway::sse {
namespace {

constexpr std::size_t kMost = 3;

Channels good(std::string_view target) {
  const auto [path, query] = split_target(target);
  auto address = parse_address(path, query, kMost);
  const auto* wrong = std::get_if<AddressError>(&address);
  EXPECT_EQ(wrong, nullptr) << target << ": " << (wrong ? wrong->message : "");
  return wrong ? Channels{} : std::get<Channels>(address);
}

std::string bad(std::string_view target) {
  const auto [path, query] = split_target(target);
  auto address = parse_address(path, query, kMost);
  const auto* wrong = std::get_if<AddressError>(&address);
  EXPECT_NE(wrong, nullptr) << target;
  return wrong ? wrong->message : "";
}

TEST(Address, TypeAndChannelAreJoinedWithAColon) {
  EXPECT_EQ(good("/sse/Comment/item:42"), Channels{"Comment:item:42"});
  EXPECT_EQ(good("/sse/Comment/item%3A42?x=y"), Channels{"Comment:item:42"});
  EXPECT_EQ(good("http://host:8080/sse/A/1"), Channels{"A:1"});
}

TEST(Address, AFurtherSlashPlainOrEncodedIsPartOfTheChannel) {
  EXPECT_EQ(good("/sse/A/b/c"), Channels{"A:b/c"});
  EXPECT_EQ(good("/sse/A/b%2Fc"), Channels{"A:b/c"});
  EXPECT_EQ(good("/sse/A/b/"), Channels{"A:b/"});
  EXPECT_EQ(good("/sse/A%2Fb/c"), Channels{"A/b:c"});
}

TEST(Address, APlusIsASpaceInAQueryOnly) {
  EXPECT_EQ(good("/sse/A/b+c"), Channels{"A:b+c"});
  EXPECT_EQ(good("/sse?channel=A:b+c%2B"), Channels{"A:b c+"});
}

TEST(Address, QueryNamesSeveralChannelsEachOnce) {
  EXPECT_EQ(good("/sse?channel=B:1&x=1&channel=A:1&channel=B%3A1&channel=A:1"),
            (Channels{"B:1", "A:1"}));
  EXPECT_EQ(good("/sse/?channel=A:1"), Channels{"A:1"});
}

TEST(Address, AColonAndAStarAtTheEndIsAPattern) {
  EXPECT_EQ(good("/sse?channel=A:*"), Channels{"A:*"});
  EXPECT_EQ(good("/sse/A/*"), Channels{"A:*"});
}

TEST(Address, BadNamesAreRefusedWithWhatToWriteInstead) {
  EXPECT_NE(bad("/sse").find("/sse/{stream_type}/{channel}"), std::string::npos);
  EXPECT_NE(bad("/sse/").find("/sse/{stream_type}/{channel}"), std::string::npos);
  EXPECT_NE(bad("/sse/A").find("/sse/{stream_type}/{channel}"), std::string::npos);
  EXPECT_NE(bad("/sse/A/").find("/sse/{stream_type}/{channel}"), std::string::npos);
  EXPECT_NE(bad("/sse//b").find("/sse/{stream_type}/{channel}"), std::string::npos);
  EXPECT_NE(bad("/sse?channel=").find("empty"), std::string::npos);
  EXPECT_NE(bad("/sse?channel=*").find(":*"), std::string::npos);
  EXPECT_NE(bad("/sse?channel=%3A*").find(":*"), std::string::npos);
  EXPECT_NE(bad("/sse/A/a%0Ab").find("control"), std::string::npos);
  EXPECT_NE(bad("/sse/A/a%00b").find("control"), std::string::npos);
  EXPECT_NE(bad("/sse/A/a%7F").find("control"), std::string::npos);
  EXPECT_NE(bad("/sse/A/%FF").find("UTF-8"), std::string::npos);
  EXPECT_NE(bad("/sse/A/%ED%A0%80").find("UTF-8"), std::string::npos);
  EXPECT_NE(bad("/sse/A/%").find("%25"), std::string::npos);
  EXPECT_NE(bad("/sse/A/%4").find("%25"), std::string::npos);
  EXPECT_NE(bad("/sse/A/%zz").find("%25"), std::string::npos);
  EXPECT_NE(bad("/sse?channel=A:1&channel=%").find("%25"), std::string::npos);
}

TEST(Address, NamesAndTheirNumberAreLimited) {
  EXPECT_EQ(good("/sse/A/" + std::string(253, 'x')).front().size(), 255u);
  EXPECT_EQ(bad("/sse/A/" + std::string(254, 'x')), "the channel is longer than 255 bytes");
  EXPECT_EQ(good("/sse?channel=a&channel=b&channel=c&channel=a").size(), 3u);
  EXPECT_NE(bad("/sse?channel=a&channel=b&channel=c&channel=d").find("at most 3"),
            std::string::npos);
}

TEST(Address, OnlyTheStreamsPathIsOne) {
  EXPECT_TRUE(is_stream_path("/sse"));
  EXPECT_TRUE(is_stream_path("/sse/a"));
  EXPECT_FALSE(is_stream_path("/ssex"));
  EXPECT_FALSE(is_stream_path("/"));
  EXPECT_FALSE(is_stream_path(""));
}

TEST(Address, QueryValueTakesTheFirstOfItsName) {
  EXPECT_EQ(query_value("a=1&last_event_id=e-1&last_event_id=e-2", "last_event_id"), "e-1");
  EXPECT_EQ(query_value("last_event_id=%zz", "last_event_id"), "");
  EXPECT_EQ(query_value("last_event_idx=1&&=&last_event_id", "last_event_id"), "");
}

}  // namespace
}  // namespace spillway::sse
