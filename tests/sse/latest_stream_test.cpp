// Latest channels over real sockets.
#include <gtest/gtest.h>

#include <string>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

using Frames = std::vector<Frame>;

HubOptions with_latest(std::size_t log_bytes = 64u << 20) {
  HubOptions options;
  options.log_bytes = log_bytes;
  options.latest.patterns = {"M:*", "cpu"};
  return options;
}

// The shard has taken in all up to there.
bool taken_in(Site& site, std::uint64_t position) {
  return eventually([&] {
    Client probe = site.open("/sse?channel=probe:1");
    return probe.read_until("\n\n") &&
           last_id_of(probe.received()) == "e-" + std::to_string(position);
  });
}

TEST(LatestStream, ShowsTheNewestFrameRightBehindTheConnectedFrame) {
  Site site({}, with_latest());
  site.publish({{"M:x", "v", "1"}, {"M:x", "v", "2"}, {"a:1", "", "x"}});
  Client client = site.open("/sse/M/x");
  ASSERT_TRUE(client.read_until("2\nid: e-3\n\n"));
  EXPECT_EQ(client.received(), opening("M:x", 3) + "event: v\ndata: 2\nid: e-3\n\n");
  site.publish({{"M:x", "v", "3"}, {"M:x", "v", "4"}});
  ASSERT_TRUE(client.read_until("id: e-5\n\n"));
  EXPECT_EQ(frames_of(client.received()),
            (Frames{{"v", "2", "e-3"}, {"v", "3", "e-4"}, {"v", "4", "e-5"}}))
      << "once live, every frame comes";
  EXPECT_EQ(site.source.reads(), 0u);
}

TEST(LatestStream, WithoutAFrameThereIsNothingToShow) {
  Site site({}, with_latest());
  site.publish({{"a:1", "", "x"}});
  Client client = site.open("/sse?channel=M:x");
  ASSERT_TRUE(client.read_until("id: e-1\n\n"));
  site.publish({{"M:x", "v", "1"}});
  ASSERT_TRUE(client.read_until("id: e-2\n\n"));
  EXPECT_EQ(client.received(), opening("M:x", 1) + "event: v\ndata: 1\nid: e-2\n\n");
}

TEST(LatestStream, WhoResumesIsSparedWhatCameInBetween) {
  Site site({}, with_latest());
  for (int i = 1; i <= 5; ++i) site.publish({{"M:x", "v", std::to_string(i)}});
  Client client = site.open("/sse/M/x", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(client.read_until("5\nid: e-2\n\n"));
  EXPECT_EQ(client.received(), opening("M:x", 2) + "event: v\ndata: 5\nid: e-2\n\n");
  site.publish({{"M:x", "v", "6"}});
  ASSERT_TRUE(client.read_until("id: e-6\n\n"));
  EXPECT_EQ(frames_of(client.received()), (Frames{{"v", "5", "e-2"}, {"v", "6", "e-6"}}));
}

// A connected frame may be the last thing that arrived: its id says nothing about the state.
TEST(LatestStream, WhoResumesIsShownTheStateAlsoWhenItsIdIsLater) {
  Site site({}, with_latest());
  site.publish({{"M:x", "v", "1"}, {"a:1", "", "x"}});
  Client client = site.open("/sse/M/x", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(client.read_until("1\nid: e-2\n\n"));
}

TEST(LatestStream, OrdinaryChannelsBesideItAreExact) {
  Site site({}, with_latest());
  for (int i = 1; i <= 3; ++i)
    site.publish({{"M:x", "v", std::to_string(i)}, {"a:1", "n", std::to_string(i)}});
  Client client = site.open("/sse?channel=M:x&channel=a:1", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(client.read_until("3\nid: e-6\n\n"));
  EXPECT_EQ(frames_of(client.received()),
            (Frames{{"v", "3", "e-2"}, {"n", "2", "e-4"}, {"n", "3", "e-6"}}));
}

TEST(LatestStream, EphemeralFramesAreAStateToo) {
  Site site({}, with_latest());
  site.publish({{"cpu", "v", "1"}, {"cpu", "v", "2", true}});
  Client client = site.open("/sse?channel=cpu");
  ASSERT_TRUE(client.read_until("2\nid: e-1\n\n"));
  EXPECT_EQ(frames_of(client.received()), (Frames{{"v", "2", "e-1"}}));
}

TEST(LatestStream, APatternShowsTheNewestOfEachChannelInCommitOrder) {
  Site site({}, with_latest());
  site.publish({{"M:x", "v", "1"}, {"M:y", "v", "2"}, {"M:x", "v", "3"}, {"M:e", "v", "4", true}});
  Client client = site.open("/sse?channel=M:*");
  ASSERT_TRUE(client.read_until("4\nid: e-3\n\n"));
  EXPECT_EQ(frames_of(client.received()),
            (Frames{{"v", "2", "e-3"}, {"v", "3", "e-3"}, {"v", "4", "e-3"}}));
  EXPECT_EQ(site.source.reads(), 1u) << "nobody knew whether these were all";
  Client next = site.open("/sse?channel=M:*");
  ASSERT_TRUE(next.read_until("4\nid: e-3\n\n"));
  EXPECT_EQ(site.source.reads(), 1u);
}

TEST(LatestStream, AfterARestartTheDatabaseHasTheState) {
  Site site({}, with_latest(), false);
  site.commit({{"M:x", "v", "1"}, {"M:y", "v", "2"}, {"M:x", "v", "3"}, {"a:1", "n", "4"}});
  site.hub.start(site.line);
  site.server.start();
  Client client = site.open("/sse?channel=M:x");
  ASSERT_TRUE(client.read_until("3\nid: e-4\n\n"));
  EXPECT_EQ(frames_of(client.received()), (Frames{{"v", "3", "e-4"}}));
  Client all = site.open("/sse?channel=M:*&channel=a:1", "Last-Event-ID: e-1\r\n");
  ASSERT_TRUE(all.read_until("4\nid: e-4\n\n"));
  EXPECT_EQ(frames_of(all.received()),
            (Frames{{"v", "2", "e-1"}, {"v", "3", "e-1"}, {"n", "4", "e-4"}}));
}

// What the database said is not shown again when a part of it is newer by the time it goes live.
TEST(LatestStream, IsShownOnceThoughItIsTakenTwice) {
  Site site({}, with_latest(), false);
  site.commit({{"M:x", "v", "1"}, {"M:y", "v", "2"}, {"a:1", "n", "3"}});
  site.hub.start(site.line);
  site.server.start();
  site.source.set_mode(FakeReplaySource::Mode::hold);
  Client client = site.open("/sse?channel=M:*&channel=a:1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; })) << "for the state";
  ASSERT_EQ(site.source.release(), 1u);
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; })) << "for the page";
  site.publish({{"M:y", "v", "4"}, {"a:1", "n", "5"}});
  ASSERT_TRUE(taken_in(site, 5));
  ASSERT_EQ(site.source.release(), 1u);
  ASSERT_TRUE(client.read_until("4\nid: e-5\n\n"));
  EXPECT_EQ(frames_of(client.received()), (Frames{{"v", "1", "e-0"},
                                                  {"v", "2", "e-0"},
                                                  {"n", "3", "e-3"},
                                                  {"n", "5", "e-5"},
                                                  {"v", "4", "e-5"}}));
}

TEST(LatestStream, IsNotResetOnItsOwnButWithOthers) {
  Site site({}, with_latest(1));
  for (int i = 1; i <= 9; ++i) site.publish({{"M:x", "v", std::to_string(i)}});
  ASSERT_TRUE(eventually([&] { return site.hub.head().position == 9; }));
  site.source.set_floor(5);
  Client alone = site.open("/sse/M/x", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(alone.read_until("9\nid: e-2\n\n"));
  EXPECT_EQ(frames_of(alone.received()), (Frames{{"v", "9", "e-2"}}));
  Client both = site.open("/sse?channel=M:x&channel=a:1", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(both.read_until("9\nid: e-9\n\n"));
  const auto frames = frames_of(both.received());
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].event, "reset");
  EXPECT_EQ(frames[1], (Frame{"v", "9", "e-9"}));
}

TEST(LatestStream, WhatIsCommittedWhileAClientCatchesUpIsNeitherLostNorDoubled) {
  for (const bool forgets : {false, true}) {
    Site site({}, with_latest(4000));
    const Message filler{"filler:1", "", std::string(5000, 'x')};
    for (int i = 1; i <= 5; ++i) site.publish({{"a:1", "n", std::to_string(i)}});
    ASSERT_TRUE(taken_in(site, 5));
    site.publish({filler});
    ASSERT_TRUE(taken_in(site, 6));
    site.publish({{"M:x", "v", "old"}});
    ASSERT_TRUE(taken_in(site, 7));
    site.source.set_mode(FakeReplaySource::Mode::hold);
    Client client = site.open("/sse?channel=M:x&channel=a:1", "Last-Event-ID: e-0\r\n");
    ASSERT_TRUE(eventually([&] { return site.source.held() == 1; }))
        << "for the page; the state is known";
    site.publish({{"M:x", "v", "8"}});
    ASSERT_TRUE(taken_in(site, 8));
    site.publish({forgets ? filler : Message{"filler:1", "", "x"}});
    ASSERT_TRUE(taken_in(site, 9));
    site.publish({{"M:x", "v", "10"}});
    site.publish({{"a:1", "n", "11"}});
    ASSERT_TRUE(taken_in(site, 11));
    site.source.set_mode(FakeReplaySource::Mode::at_once);
    ASSERT_EQ(site.source.release(), 1u);
    ASSERT_TRUE(client.read_until("10\nid: e-11\n\n")) << forgets << client.received();
    site.publish({{"M:x", "v", "12"}, {"a:1", "n", "13"}});
    ASSERT_TRUE(client.read_until("13\nid: e-13\n\n"));
    EXPECT_EQ(frames_of(client.received()), (Frames{{"v", "old", "e-0"},
                                                    {"n", "1", "e-1"},
                                                    {"n", "2", "e-2"},
                                                    {"n", "3", "e-3"},
                                                    {"n", "4", "e-4"},
                                                    {"n", "5", "e-5"},
                                                    {"n", "11", "e-11"},
                                                    {"v", "10", "e-11"},
                                                    {"v", "12", "e-12"},
                                                    {"n", "13", "e-13"}}));
  }
}

// More than is shown at a time; the client reads slowly, and the rest follows.
TEST(LatestStream, ALargeStateIsShownInParts) {
  Site site({}, with_latest());
  std::vector<Message> messages;
  for (int i = 100; i < 900; ++i)
    messages.push_back({"M:" + std::to_string(i), "v", std::to_string(i) + std::string(2000, 'x')});
  site.publish(messages);
  Client client(site.port(), 4096);
  client.send(get("/sse?channel=M:*&channel=a:1", "Last-Event-ID: e-0\r\n"));
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  site.publish({{"M:100", "v", "live"}, {"a:1", "n", "last"}});
  ASSERT_TRUE(client.read_until("last\nid: e-802\n\n"));
  const auto frames = frames_of(client.received());
  ASSERT_EQ(frames.size(), 802u);
  for (std::size_t i = 0; i < 800; ++i) {
    ASSERT_TRUE(frames[i].data.starts_with(std::to_string(100 + i))) << i;
    ASSERT_EQ(frames[i].id, "e-0");
  }
  EXPECT_EQ(frames[800], (Frame{"v", "live", "e-801"}));
}

TEST(LatestStream, AClientAheadOfThisProcessIsShownWhatTheDatabaseHas) {
  Site site({}, with_latest());
  site.publish({{"M:x", "v", "1"}});
  const BroadcastBatch late = site.commit({{"M:x", "v", "2"}, {"a:1", "n", "3"}});
  Client client = site.open("/sse?channel=M:x&channel=a:1", "Last-Event-ID: e-3\r\n");
  ASSERT_TRUE(client.read_until("2\nid: e-3\n\n"));
  site.hub.publish(late);
  site.publish({{"M:x", "v", "4"}});
  ASSERT_TRUE(client.read_until("4\nid: e-4\n\n"));
  EXPECT_EQ(frames_of(client.received()), (Frames{{"v", "2", "e-3"}, {"v", "4", "e-4"}}));
}

TEST(LatestStream, WithoutTheDatabaseTheClientIsToldToComeBack) {
  Site site({}, with_latest());
  site.source.set_mode(FakeReplaySource::Mode::fail);
  Client client = site.open("/sse/M/x");
  EXPECT_TRUE(client.read_to_end());
  EXPECT_TRUE(body_of(client.received()).starts_with("retry: ")) << client.received();
}

TEST(LatestStream, AClientThatGoesWhileItsStateIsReadLeavesNothingBehind) {
  Site site({}, with_latest());
  site.source.set_mode(FakeReplaySource::Mode::hold);
  Client client = site.open("/sse/M/x");
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; }));
  client.reset();
  ASSERT_TRUE(site.wait_for_streams(0));
  EXPECT_EQ(site.source.release(), 1u);
}

}  // namespace
}  // namespace spillway::sse::test
