#include "sse/sequencer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace spillway::sse {
namespace {

Broadcast durable(std::string data) {
  return {0, "A:1", "", std::move(data), false};
}
Broadcast ephemeral(std::string data) {
  return {0, "A:1", "", std::move(data), true};
}

std::string text(const std::vector<BroadcastBatch>& batches) {
  std::string out;
  for (const BroadcastBatch& batch : batches)
    for (const Broadcast& broadcast : batch.broadcasts) out += broadcast.data;
  return out;
}

class SequencerTest : public testing::Test {
 protected:
  SequencerTest() { sequencer_.start({"e", 0, 0}); }
  Sequencer sequencer_{100000};
};

TEST_F(SequencerTest, AppendsWhatFollows) {
  EXPECT_EQ(text(sequencer_.offer({0, 0, {durable("a"), durable("b")}}).ready), "ab");
  EXPECT_EQ(text(sequencer_.offer({2, 0, {durable("c")}}).ready), "c");
  EXPECT_EQ(sequencer_.head(), (Head{"e", 3, 0}));
}

TEST_F(SequencerTest, SkipsWhatIsKnown) {
  (void)sequencer_.offer({0, 0, {durable("a"), durable("b")}});
  const auto again = sequencer_.offer({0, 0, {durable("a"), durable("b")}});
  EXPECT_TRUE(again.ready.empty());
  EXPECT_FALSE(again.parked);
}

TEST_F(SequencerTest, TrimsWhatIsPartlyKnown) {
  (void)sequencer_.offer({0, 0, {durable("a"), ephemeral("x"), durable("b")}});
  const auto outcome =
      sequencer_.offer({1, 0, {ephemeral("x"), durable("b"), ephemeral("y"), durable("c")}});
  EXPECT_EQ(text(outcome.ready), "yc");
  EXPECT_EQ(outcome.ready.front().base_position, 2u);
  EXPECT_EQ(outcome.ready.front().base_ephemeral, 1u);
  EXPECT_EQ(sequencer_.head(), (Head{"e", 3, 2}));
}

TEST_F(SequencerTest, GoesOnBehindWhatIsGoneForGood) {
  (void)sequencer_.offer({0, 0, {durable("a")}});
  EXPECT_TRUE(sequencer_.offer({8, 0, {durable("i"), durable("j"), durable("k")}}).parked);
  EXPECT_TRUE(sequencer_.skip(5).empty());
  EXPECT_EQ(sequencer_.head(), (Head{"e", 5, 0}));
  EXPECT_TRUE(sequencer_.has_gap());
  const auto ready = sequencer_.skip(9);
  EXPECT_EQ(text(ready), "jk") << "what is gone is cut off";
  EXPECT_EQ(ready.front().base_position, 9u);
  EXPECT_TRUE(sequencer_.skip(3).empty()) << "never back";
  EXPECT_EQ(sequencer_.head(), (Head{"e", 11, 0}));
  EXPECT_EQ(text(sequencer_.offer({11, 0, {durable("l")}}).ready), "l");
}

TEST_F(SequencerTest, ParksAheadOfAHoleAndReleasesWhenItFills) {
  EXPECT_TRUE(sequencer_.offer({2, 0, {durable("c")}}).parked);
  EXPECT_TRUE(sequencer_.offer({1, 0, {durable("b")}}).parked);
  EXPECT_TRUE(sequencer_.has_gap());
  EXPECT_EQ(text(sequencer_.offer({0, 0, {durable("a")}}).ready), "abc");
  EXPECT_FALSE(sequencer_.has_gap());
  EXPECT_EQ(sequencer_.parked_bytes(), 0u);
}

TEST_F(SequencerTest, ABatchFromTheDatabaseMayReachIntoWhatIsParked) {
  (void)sequencer_.offer({2, 0, {durable("c"), durable("d")}});
  EXPECT_EQ(text(sequencer_.offer({0, 0, {durable("a"), durable("b"), durable("c")}}).ready),
            "abcd");
}

TEST_F(SequencerTest, DropsTheFarthestBeyondTheCapAndStillKnowsOfTheGap) {
  Sequencer small(1000);
  small.start({"e", 0, 0});
  (void)small.offer({5, 0, {durable(std::string(600, 'f'))}});
  (void)small.offer({3, 0, {durable(std::string(600, 'd'))}});
  EXPECT_LE(small.parked_bytes(), 1000u);
  EXPECT_EQ(text(small.offer({0, 0, {durable("a"), durable("b"), durable("c")}}).ready),
            "abc" + std::string(600, 'd'));
  EXPECT_TRUE(small.has_gap());  // position 6 was seen
  EXPECT_EQ(text(small.offer({4, 0, {durable("e"), durable("f")}}).ready), "ef");
  EXPECT_FALSE(small.has_gap());
}

TEST_F(SequencerTest, ABatchLargerThanTheCapIsNotKept) {
  Sequencer small(1000);
  small.start({"e", 0, 0});
  EXPECT_TRUE(small.offer({1, 0, {durable(std::string(5000, 'x'))}}).parked);
  EXPECT_EQ(small.parked_bytes(), 0u);
  EXPECT_TRUE(small.has_gap());
}

TEST_F(SequencerTest, WaitsForEphemeralNumbersUntilTheyAreSkipped) {
  EXPECT_TRUE(sequencer_.offer({0, 3, {ephemeral("x"), durable("a")}}).parked);
  EXPECT_EQ(text(sequencer_.skip_ephemeral(2)), "");
  EXPECT_EQ(text(sequencer_.skip_ephemeral(3)), "xa");
  EXPECT_EQ(sequencer_.head(), (Head{"e", 1, 4}));
  EXPECT_TRUE(sequencer_.skip_ephemeral(1).empty());
  EXPECT_EQ(sequencer_.head().ephemeral, 4u);
}

TEST_F(SequencerTest, OneThatWaitsForEphemeralsDoesNotHoldBackOthers) {
  (void)sequencer_.offer({1, 5, {ephemeral("x")}});
  (void)sequencer_.offer({1, 0, {durable("b")}});
  EXPECT_EQ(text(sequencer_.offer({0, 0, {durable("a")}}).ready), "ab");
}

TEST(Sequencer, ParksBeforeItsStart) {
  Sequencer sequencer(1000);
  EXPECT_TRUE(sequencer.offer({5, 0, {durable("f")}}).parked);
  EXPECT_TRUE(sequencer.offer({4, 0, {durable("e")}}).parked);
  EXPECT_EQ(text(sequencer.start({"e", 5, 0})), "f");
}

TEST(Sequencer, AnotherEpochForgetsEverythingTheSameOnlyMovesTheEphemeralNumber) {
  Sequencer sequencer(1000);
  sequencer.start({"e", 0, 0});
  (void)sequencer.offer({0, 0, {durable("a")}});
  EXPECT_TRUE(sequencer.start({"e", 99, 7}).empty());
  EXPECT_EQ(sequencer.head(), (Head{"e", 1, 7}));
  (void)sequencer.offer({50, 7, {durable("z")}});
  EXPECT_TRUE(sequencer.start({"f", 50, 7}).empty());
  EXPECT_EQ(sequencer.head(), (Head{"f", 50, 7}));
  EXPECT_FALSE(sequencer.has_gap());
}

TEST(Sequencer, AnyOrderOfOverlappingBatchesGivesTheLineOnce) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::vector<Broadcast> line;
    std::string expected;
    for (int i = 0; i < 60; ++i) {
      const std::string data(1, static_cast<char>('0' + i));
      line.push_back(random() % 4 == 0 ? ephemeral(data) : durable(data));
      expected += data;
    }
    std::vector<BroadcastBatch> batches;
    for (std::size_t at = 0; at < line.size();) {
      const std::size_t from = at - std::min<std::size_t>(at, random() % 4);
      at = std::min<std::size_t>(line.size(), at + 1 + random() % 6);
      BroadcastBatch batch;
      for (std::size_t i = 0; i < from; ++i)
        ++(line[i].ephemeral ? batch.base_ephemeral : batch.base_position);
      for (std::size_t i = from; i < at; ++i) batch.broadcasts.push_back(line[i]);
      batches.push_back(batch);
      if (random() % 3 == 0) batches.push_back(batch);
    }
    std::shuffle(batches.begin(), batches.end(), random);
    Sequencer sequencer(1000000);
    sequencer.start({"e", 0, 0});
    std::string seen;
    for (BroadcastBatch& batch : batches) seen += text(sequencer.offer(std::move(batch)).ready);
    ASSERT_EQ(seen, expected) << "seed " << seed;
    ASSERT_FALSE(sequencer.has_gap());
  }
}

}  // namespace
}  // namespace spillway::sse
