// Latest channels: what is decided, and what memory keeps of them.
#include "sse/latest.hpp"

#include <gtest/gtest.h>

#include "sse/resume.hpp"
#include "sse/segment.hpp"

namespace spillway::sse {
namespace {

using Names = std::vector<std::string>;

LatestFramePtr frame(const std::string& channel, std::uint64_t position, const std::string& data,
                     bool ephemeral = false) {
  return latest_frame({position, channel, "t", data, ephemeral});
}

std::string shown(const std::vector<LatestFramePtr>& frames) {
  std::string text;
  for (const auto& one : frames)
    text += one->channel + "@" + std::to_string(one->position) + (one->ephemeral ? "e " : " ");
  return text;
}

TEST(Latest, ChannelsAreSplitByThePatternsThatWereGiven) {
  const Names latest = {"M:*", "cpu"};
  EXPECT_EQ(split_channels({"a:1", "M:x", "cpu", "M:eu:*"}, latest),
            (ChannelSplit{{"a:1"}, {"M:x", "cpu", "M:eu:*"}}));
  EXPECT_EQ(split_channels({"M:*"}, {"M:eu:*"}), (ChannelSplit{{"M:*"}, {}}))
      << "a wider pattern reads them as ordinary ones";
  EXPECT_EQ(split_channels({"M:*", "M:eu:1", "N:1"}, {"M:eu:*"}),
            (ChannelSplit{{"M:*", "N:1", "M:eu:1"}, {}}))
      << "it is read in full anyhow";
}

TEST(Latest, AFrameIsShownWithTheIdOfWhereTheStreamStarts) {
  std::string out;
  append_shown(out, *frame("M:x", 7, "a\nid: e-1"), "e", 42);
  EXPECT_EQ(out, "event: t\ndata: a\ndata: id: e-1\nid: e-42\n\n");
}

TEST(Latest, ASegmentKnowsTheNewestFrameOfEachLatestChannel) {
  const BroadcastBatch batch{10,
                             0,
                             {{0, "M:x", "t", "1", false},
                              {0, "a:1", "t", "2", false},
                              {0, "M:x", "t", "id: e-5", false},
                              {0, "M:y", "t", "4", true},
                              {0, "M:x", "t", "5", true}}};
  const auto segments = encode_segments("e", batch, kSegmentBytes, {"M:*"});
  ASSERT_EQ(segments.size(), 1u);
  std::vector<LatestFramePtr> latest = merge_latest(segments[0]->latest, {});
  EXPECT_EQ(shown(latest), "M:x@13e M:y@13e ");
  EXPECT_EQ(latest[0]->text, "event: t\ndata: 5\n");
  EXPECT_TRUE(encode_segments("e", batch)[0]->latest.empty());
}

TEST(Latest, OfTwoFramesTheLaterCounts) {
  EXPECT_EQ(shown(merge_latest({frame("a", 5, "x"), frame("b", 9, "x")},
                               {{4, "a", "t", "old", false}, {12, "c", "t", "x", false}})),
            "a@5 b@9 c@12 ");
  EXPECT_EQ(shown(merge_latest({frame("a", 5, "x", true)}, {{5, "a", "t", "x", false}})), "a@5e ")
      << "an ephemeral one stands behind the durable one of its position";
  EXPECT_EQ(shown(merge_latest({frame("a", 5, "x", true)}, {{6, "a", "t", "x", false}})), "a@6 ");
}

TEST(Latest, AStreamGoesLiveOnlyWithWhatIsInMemorySinceItsStateWasTaken) {
  EXPECT_TRUE(covers({3, 100}, 100, 3));
  EXPECT_TRUE(covers({3, 100}, 90, 0));
  EXPECT_FALSE(covers({3, 100}, 101, 0)) << "what came up to there is behind the client's id";
  EXPECT_FALSE(covers({3, 100}, 90, 4)) << "a segment since then is gone";
}

TEST(Latest, AConnectionOfLatestChannelsOnlyIsNeverReset) {
  const MemoryWindow memory{"e", 100, 200};
  EXPECT_EQ(resume_latest({}, memory), GoLive{200});
  EXPECT_EQ(resume_latest(parse_resume_point("e-3"), memory), GoLive{3});
  EXPECT_EQ(resume_latest(parse_resume_point("e-300"), memory), GoLive{200});
  EXPECT_EQ(resume_latest(parse_resume_point("x-3"), memory), GoLive{200});
  EXPECT_EQ(resume_latest(parse_resume_point("garbage"), memory), GoLive{200});
  EXPECT_EQ(resume_latest(parse_resume_point("earliest"), memory), GoLive{200});
}

TEST(LatestTable, AsksTheDatabaseOnceForWhatItDoesNotKnow) {
  LatestTable table(10, 1 << 20);
  table.put(frame("M:x", 5, "1"), 1);
  auto known = table.look_up({"M:x", "M:y", "M:*"}, 0);
  EXPECT_EQ(shown(merge_latest(known.frames, {})), "M:x@5 ");
  EXPECT_EQ(known.missing, (Names{"M:y", "M:*"}));
  table.learn(known, {{4, "M:x", "t", "old", false}, {3, "M:z", "t", "1", false}}, true);
  known = table.look_up({"M:x", "M:y", "M:*", "M:nobody"}, 0);
  EXPECT_EQ(known.missing, Names{});
  EXPECT_EQ(shown(merge_latest(known.frames, {})), "M:z@3 M:x@5 ") << "what it had was newer";
  table.put(frame("M:y", 6, "1"), 2);
  EXPECT_EQ(shown(table.look_up({"M:y"}, 0).frames), "M:y@6 ");
  EXPECT_EQ(shown(table.look_up({"M:*"}, 2).frames), "M:y@6 ") << "since then";
}

TEST(LatestTable, OfAnAnswerThatWasCutOffItKnowsNoMoreThanItSays) {
  LatestTable table(10, 1 << 20);
  table.learn(table.look_up({"M:*"}, 0), {{3, "M:z", "t", "1", false}}, false);
  EXPECT_EQ(table.look_up({"M:z"}, 0).missing, Names{});
  EXPECT_EQ(table.look_up({"M:*"}, 0).missing, Names{"M:*"});
}

TEST(LatestTable, TheLeastRecentlyWrittenGoesFirstAndIsAskedForAgain) {
  LatestTable table(3, 1 << 20);
  table.learn(table.look_up({"M:*"}, 0), {}, true);
  for (const char* name : {"M:a", "M:b", "M:c", "M:a"}) table.put(frame(name, 1, "x"), 1);
  EXPECT_EQ(table.look_up({"M:*"}, 0).missing, Names{});
  const auto asked = table.look_up({"N:1"}, 0);
  table.put(frame("M:d", 2, "x"), 2);
  EXPECT_EQ(table.channels(), 3u);
  EXPECT_EQ(table.look_up({"M:a", "M:b", "M:c", "M:*"}, 0).missing, (Names{"M:b", "M:*"}));
  table.learn(asked, {{1, "N:1", "t", "x", false}}, true);
  EXPECT_EQ(table.look_up({"N:1"}, 0).missing, Names{"N:1"})
      << "what was forgotten meanwhile may have been a newer one";
}

TEST(LatestTable, IsBoundedInBytes) {
  LatestTable table(1000, 10'000);
  for (int i = 0; i < 100; ++i)
    table.put(frame("M:" + std::to_string(i % 50), 1, std::string(1000, 'x')), 1);
  EXPECT_LE(table.bytes(), 10'000u);
  EXPECT_GT(table.channels(), 3u);
  table.put(frame("M:huge", 1, std::string(20'000, 'x')), 1);
  EXPECT_LE(table.bytes(), 10'000u);
  table.clear();
  EXPECT_EQ(table.bytes(), 0u);
}

TEST(LatestTable, NamesOfChannelsThatAreNotThereCostNothingOfWhatIsKnown) {
  LatestTable table(5, 1 << 20);
  table.put(frame("M:a", 1, "x"), 1);
  table.learn(table.look_up({"M:*"}, 0), {}, true);
  for (int i = 0; i < 50; ++i) table.learn(table.look_up({"N:" + std::to_string(i)}, 0), {}, true);
  EXPECT_EQ(table.channels(), 5u);
  EXPECT_EQ(table.look_up({"M:*"}, 0).missing, Names{});
  EXPECT_EQ(shown(table.look_up({"M:*"}, 0).frames), "M:a@1 ");
}

}  // namespace
}  // namespace spillway::sse
