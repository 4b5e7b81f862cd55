#include "processor/outbox_reader.hpp"

#include <gtest/gtest.h>

#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class OutboxReaderTest : public testing::Test {
 protected:
  // Positions 1 to `count`: channel a:1, b:1, a:2, b:2, a:1, …
  void fill(int count) {
    database.query(
        "INSERT INTO spillway.broadcasts (position, channel, event_type, data) SELECT g,"
        " (ARRAY['a:1', 'b:1', 'a:2', 'b:2'])[1 + (g - 1) % 4], 'E', to_json(g) FROM"
        " generate_series(1, " +
        std::to_string(count) +
        ") g;"
        "UPDATE spillway.stream_head SET last = " +
        std::to_string(count));
  }
  std::string page(const std::vector<std::string>& channels, std::optional<std::uint64_t> after,
                   std::size_t limit) {
    const auto read = reader.read_page({channels, after, limit});
    std::string text = std::to_string(read.floor) + ".." + std::to_string(read.head.position) +
                       " upto " + std::to_string(read.upto) + ":";
    for (const auto& broadcast : read.broadcasts) text += " " + std::to_string(broadcast.position);
    return text;
  }

  Database database;
  PgConnection session{database.target()};
  OutboxReader reader{session};
};

TEST_F(OutboxReaderTest, PagesOfOneChannelSayUpToWhereTheyAreWhole) {
  fill(12);
  EXPECT_EQ(page({"a:1"}, 0, 2), "0..12 upto 5: 1 5");
  EXPECT_EQ(page({"a:1"}, 5, 2), "0..12 upto 12: 9");
  EXPECT_EQ(page({"a:1"}, 12, 2), "0..12 upto 12:");
  EXPECT_EQ(page({"nobody"}, 0, 2), "0..12 upto 12:");
}

TEST_F(OutboxReaderTest, SeveralChannelsAndPrefixesComeInCommitOrder) {
  fill(8);
  EXPECT_EQ(page({"b:2", "a:1"}, 0, 10), "0..8 upto 8: 1 4 5 8");
  EXPECT_EQ(page({"b:2", "a:1"}, 1, 2), "0..8 upto 5: 4 5");
  EXPECT_EQ(page({"a:*"}, 0, 10), "0..8 upto 8: 1 3 5 7");
  EXPECT_EQ(page({"a:*", "b:2"}, 2, 3), "0..8 upto 5: 3 4 5");
}

TEST_F(OutboxReaderTest, APageOfLargeBroadcastsEndsOnceItHasItsBytes) {
  // Compressible, incompressible, and small ones among them.
  database.query(
      "INSERT INTO spillway.broadcasts (position, channel, event_type, data) SELECT g, 'a:1', 'E',"
      " to_json(CASE g % 3 WHEN 0 THEN repeat('x', 300000)"
      " WHEN 1 THEN (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 2000))"
      " ELSE 'small' END || g) FROM generate_series(1, 30) g;"
      "UPDATE spillway.stream_head SET last = 30");
  for (const std::vector<std::string>& channels :
       {std::vector<std::string>{"a:1"}, {"a:1", "b:1"}, {"a:*"}}) {
    std::uint64_t after = 0;
    std::size_t pages = 0;
    for (; after < 30; ++pages) {
      const auto page = reader.read_page({channels, after, 500, 100000});
      ASSERT_FALSE(page.broadcasts.empty());
      std::size_t bytes = 0;
      for (const auto& broadcast : page.broadcasts) {
        ASSERT_EQ(broadcast.position, ++after);
        const std::string number = std::to_string(after);
        ASSERT_EQ(broadcast.data.size() - number.size(), after % 3 == 0   ? 300000u
                                                         : after % 3 == 1 ? 64000u
                                                                          : 5u);
        ASSERT_TRUE(broadcast.data.ends_with(number));
        ASSERT_LT(bytes, 100000u) << "it had enough before this one";
        bytes += broadcast.data.size();
      }
      ASSERT_EQ(page.upto, after);
    }
    EXPECT_GE(pages, 10u);
  }
}

TEST_F(OutboxReaderTest, WhatTheHubIsGivenAtATimeIsBoundedInBytes) {
  database.query(
      "INSERT INTO spillway.broadcasts (position, channel, event_type, data) SELECT g, 'a:1', 'E',"
      " to_json(repeat('x', 1000000)) FROM generate_series(1, 12) g;"
      "INSERT INTO spillway.ephemeral_broadcasts (number, position, channel, event_type, data)"
      " SELECT g, g, 'a:1', 'E', to_json(repeat('y', 1000000)) FROM generate_series(1, 12) g;"
      "UPDATE spillway.stream_head SET last = 12, last_ephemeral = 12");
  sse::Head known = reader.line().head;
  known.position = known.ephemeral = 0;
  std::size_t reads = 0;
  for (bool more = true; more; ++reads) {
    ASSERT_LT(reads, 20u);
    const auto tail = reader.read_after(known, 1000);
    EXPECT_EQ(tail.lost_ephemeral, 0u);
    EXPECT_LE(tail.batch.broadcasts.size(), 12u);
    for (const auto& broadcast : tail.batch.broadcasts) {
      ++(broadcast.ephemeral ? known.ephemeral : known.position);
      EXPECT_EQ(broadcast.data.size(), 1000000u);
      EXPECT_EQ(broadcast.data.front(), broadcast.ephemeral ? 'y' : 'x');
    }
    more = tail.more;
  }
  EXPECT_EQ(known.position, 12u);
  EXPECT_EQ(known.ephemeral, 12u);
  EXPECT_GE(reads, 3u);
}

TEST_F(OutboxReaderTest, EarliestBeginsAtTheFloor) {
  fill(8);
  database.query(
      "DELETE FROM spillway.broadcasts WHERE position <= 4; UPDATE spillway.stream_head SET floor "
      "= 4");
  EXPECT_EQ(page({"a:1"}, std::nullopt, 10), "4..8 upto 8: 5");
  EXPECT_EQ(page({"a:1"}, 0, 10), "4..8 upto 8: 5");
}

TEST_F(OutboxReaderTest, StringsAreTextAndAnythingElseIsAsWritten) {
  database.query(
      "INSERT INTO spillway.broadcasts (position, channel, event_type, data) VALUES"
      " (1, 'c', 'E', '\"two\\nlines \\u00e9\"'), (2, 'c', 'E', '{\"b\":1,\"a\":[ ]}'), (3, 'c', "
      "'E', 'null');"
      "UPDATE spillway.stream_head SET last = 3");
  const auto read = reader.read_page({{"c"}, 0, 10});
  ASSERT_EQ(read.broadcasts.size(), 3u);
  EXPECT_EQ(read.broadcasts[0].data, "two\nlines é");
  EXPECT_EQ(read.broadcasts[1].data, "{\"b\":1,\"a\":[ ]}");
  EXPECT_EQ(read.broadcasts[2].data, "null");
}

TEST_F(OutboxReaderTest, TheTailInterleavesEphemeralOnes) {
  fill(4);
  database.query(
      "INSERT INTO spillway.ephemeral_broadcasts (number, position, channel, event_type, data) "
      "VALUES"
      " (1, 0, 'x', 'E', '1'), (2, 2, 'x', 'E', '2'), (3, 2, 'x', 'E', '3');"
      "UPDATE spillway.stream_head SET last_ephemeral = 3");
  const auto tail = reader.read_after({"", 0, 0}, 100);
  std::string order;
  for (const auto& broadcast : tail.batch.broadcasts)
    order += (broadcast.ephemeral ? "e" : "d") + broadcast.data + " ";
  EXPECT_EQ(order, "e1 d1 d2 e2 e3 d3 d4 ");
  EXPECT_FALSE(tail.more);
  EXPECT_EQ(tail.lost_ephemeral, 0u);
}

TEST_F(OutboxReaderTest, LostEphemeralOnesAreSkipped) {
  fill(2);
  database.query(
      "INSERT INTO spillway.ephemeral_broadcasts (number, position, channel, event_type, data) "
      "VALUES"
      " (8, 2, 'x', 'E', '8'); UPDATE spillway.stream_head SET last_ephemeral = 8");
  auto tail = reader.read_after({"", 2, 5}, 100);
  EXPECT_EQ(tail.lost_ephemeral, 7u);
  EXPECT_EQ(tail.batch.base_ephemeral, 7u);
  ASSERT_EQ(tail.batch.broadcasts.size(), 1u);
  database.query("TRUNCATE spillway.ephemeral_broadcasts");  // as a crash does
  tail = reader.read_after({"", 2, 5}, 100);
  EXPECT_EQ(tail.lost_ephemeral, 8u);
  EXPECT_TRUE(tail.batch.broadcasts.empty());
}

TEST_F(OutboxReaderTest, ALongTailComesInPages) {
  fill(10);
  auto tail = reader.read_after({"", 3, 0}, 4);
  EXPECT_TRUE(tail.more);
  ASSERT_EQ(tail.batch.broadcasts.size(), 4u);
  EXPECT_EQ(tail.batch.base_position, 3u);
  EXPECT_EQ(tail.batch.broadcasts.back().position, 7u);
}

}  // namespace
}  // namespace spillway
