// Streams over real sockets: live delivery, resume, resets, and what becomes of slow or odd
// clients.
#include <gtest/gtest.h>
#include <malloc.h>

#include <string>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

TEST(Stream, OpensWithRetryAndTheHeadItStartsAt) {
  Site site;
  site.publish({{"Other:1", "T", "x"}, {"Other:1", "T", "y"}});
  Client client = site.open("/sse/CommentStream/item:42");
  ASSERT_TRUE(client.read_until("\n\n"));
  EXPECT_EQ(client.received(), opening("CommentStream:item:42", 2));
}

TEST(Stream, SendsFramesByteForByte) {
  Site site;
  Client client = site.open("/sse/CommentStream/item:42");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  site.publish({{"CommentStream:item:42", "CommentAdded", "{\"text\":\"hi\"}"},
                {"CommentStream:item:43", "CommentAdded", "not yours"},
                {"CommentStream:item:42", "", "a\r\nb"}});
  ASSERT_TRUE(client.read_until("id: e-3\n\n"));
  EXPECT_EQ(client.received(), opening("CommentStream:item:42", 0) +
                                   "event: CommentAdded\ndata: {\"text\":\"hi\"}\nid: e-1\n\n"
                                   "data: a\ndata: b\nid: e-3\n\n");
}

TEST(Stream, ServesSeveralChannelsInCommitOrder) {
  Site site;
  Client client = site.open("/sse?channel=A:1&channel=B:1&channel=A:1");
  ASSERT_TRUE(client.read_until("\n\n"));
  site.publish({{"B:1", "t", "1"}, {"A:1", "t", "2"}, {"C:1", "t", "3"}});
  site.publish({{"A:1", "t", "4"}, {"B:1", "t", "5"}});
  ASSERT_TRUE(client.read_until("id: e-5\n\n"));
  EXPECT_NE(
      client.received().find(
          R"({"type":"connected","channel":"A:1,B:1","position":"0","channels":["A:1","B:1"]})"),
      std::string::npos);
  std::string order;
  for (const Frame& frame : frames_of(client.received())) order += frame.data;
  EXPECT_EQ(order, "1245");
}

TEST(Stream, APatternTakesEveryChannelOfThePrefixOnce) {
  Site site;
  Client client = site.open("/sse?channel=A:*&channel=A:1&channel=A:x:*");
  ASSERT_TRUE(client.read_until("\n\n"));
  site.publish({{"A:1", "", "1"}, {"AB:1", "", "2"}, {"A:x:y", "", "3"}, {"B:1", "", "4"}});
  site.publish({{"A:new", "", "5"}});
  ASSERT_TRUE(client.read_until("id: e-5\n\n"));
  std::string order;
  for (const Frame& frame : frames_of(client.received())) order += frame.data;
  EXPECT_EQ(order, "135");
}

TEST(Stream, EphemeralFramesCarryTheLastDurableIdAndAreNotReplayed) {
  Site site;
  Client live = site.open("/sse/A/1");
  ASSERT_TRUE(live.read_until("\n\n"));
  site.publish({{"A:1", "t", "one"}, {"A:1", "typing", "now", true}, {"A:1", "t", "two"}});
  ASSERT_TRUE(live.read_until("id: e-2\n\n"));
  EXPECT_EQ(
      frames_of(live.received()),
      (std::vector<Frame>{{"t", "one", "e-1"}, {"typing", "now", "e-1"}, {"t", "two", "e-2"}}));

  Client resumed = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(resumed.read_until("id: e-2\n\n"));
  site.publish({{"A:1", "typing", "again", true}});
  ASSERT_TRUE(resumed.read_until("again\nid: e-2\n\n"));
  EXPECT_EQ(
      frames_of(resumed.received()),
      (std::vector<Frame>{{"t", "one", "e-1"}, {"t", "two", "e-2"}, {"typing", "again", "e-2"}}));
}

TEST(Stream, ResumesFromMemoryWithoutAskingTheDatabase) {
  Site site;
  site.publish({{"A:1", "", "1"}, {"B:1", "", "2"}, {"A:1", "", "3"}});
  Client client = site.open("/sse/A/1?last_event_id=e-0", "Last-Event-ID: e-1\r\n");
  ASSERT_TRUE(client.read_until("id: e-3\n\n"));
  EXPECT_EQ(client.received(), opening("A:1", 1) + "data: 3\nid: e-3\n\n");
  EXPECT_EQ(site.source.reads(), 0u);
}

TEST(Stream, ResumesFromTheDatabasePageByPageAndStaysLive) {
  Site site({}, {}, false);
  std::vector<Message> many;
  for (int i = 0; i < 1201; ++i)
    many.push_back({i % 2 == 0 ? "A:1" : "B:1", "", std::to_string(i)});
  site.commit(many);  // before this process's time
  site.hub.start(site.line);
  site.server.start();
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-1\r\n");
  ASSERT_TRUE(client.read_until("id: e-1201\n\n"));
  EXPECT_EQ(site.source.reads(), 2u);
  site.publish({{"A:1", "", "live"}});
  ASSERT_TRUE(client.read_until("id: e-1202\n\n"));
  const auto frames = frames_of(client.received());
  ASSERT_EQ(frames.size(), 601u);
  for (std::size_t i = 0; i < 600; ++i) EXPECT_EQ(frames[i].data, std::to_string(2 * (i + 1)));
  EXPECT_TRUE(client.received().starts_with(opening("A:1", 1)));
}

TEST(Stream, APageIsBoundedInBytesToo) {
  Site site({}, {}, false);
  for (int i = 0; i < 20; ++i) site.commit({{"A:1", "", std::string(200000, 'x')}});
  site.hub.start(site.line);
  site.server.start();
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(client.read_until("id: e-20\n\n"));
  EXPECT_EQ(frames_of(client.received()).size(), 20u);
  EXPECT_EQ(site.source.reads(), 10u);  // of two each: the second one goes over 256 KiB
}

TEST(Stream, OneThatHasCaughtUpKeepsNothingOfItsPages) {
  constexpr std::size_t kStreams = 40;
  Site site({}, {}, false);
  for (int i = 0; i < 4; ++i) site.commit({{"A:1", "", std::string(100000, 'x')}});
  site.hub.start(site.line);
  site.server.start();
  const auto in_use = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
  const std::size_t before = in_use();
  std::vector<Client> clients;
  for (std::size_t i = 0; i < kStreams; ++i)
    clients.push_back(site.open("/sse/A/1", "Last-Event-ID: e-0\r\n"));
  std::size_t of_clients = 0;
  for (Client& client : clients) {
    ASSERT_TRUE(client.read_until("id: e-4\n\n"));
    of_clients += client.received().capacity();
  }
  // The last page goes when the stream notices that it is sent.
  EXPECT_TRUE(eventually([&] { return in_use() < before + of_clients + kStreams * 10000; }))
      << (in_use() - before - of_clients) / kStreams << " bytes for each stream";
}

TEST(Stream, OnesThatCatchUpAndTakeNothingHandTheirPagesBackToThoseWhoWait) {
  constexpr std::uint64_t kFrames = 20;
  ServerOptions options;
  options.replay_bytes = 512u << 10;  // room for a few pages
  options.blocked_timeout = milliseconds(15000);
  Site site(options, {}, false);
  for (std::uint64_t i = 0; i < kFrames; ++i)
    site.commit({{"A:1", "", std::to_string(i) + std::string(100000, 'x')}});
  site.hub.start(site.line);
  site.server.start();
  std::vector<Client> stalled;
  for (int i = 0; i < 6; ++i) {
    stalled.emplace_back(site.port(), 4096);
    stalled.back().send(get("/sse/A/1", "Last-Event-ID: e-0\r\n"));
  }
  ASSERT_TRUE(site.wait_for_streams(6));
  // All room is taken by those who take nothing; whoever reads gets his turn nevertheless.
  Client reader = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(reader.read_until("id: e-20\n\n"));
  // And so do they, each frame once and in order, also where their page was cut.
  for (Client& client : stalled) {
    ASSERT_TRUE(client.read_until("id: e-20\n\n"));
    const auto frames = frames_of(client.received());
    ASSERT_EQ(frames.size(), kFrames);
    for (std::uint64_t i = 0; i < kFrames; ++i) {
      ASSERT_EQ(frames[i].id, "e-" + std::to_string(i + 1));
      ASSERT_EQ(frames[i].data, std::to_string(i) + std::string(100000, 'x'));
    }
  }
}

TEST(Stream, EarliestReplaysAllThatIsKeptFromTheFloorOn) {
  Site site;
  site.publish({{"A:1", "", "1"}, {"A:1", "", "2"}, {"A:1", "", "3"}});
  site.source.set_floor(1);
  Client client = site.open("/sse/A/1?last_event_id=earliest");
  ASSERT_TRUE(client.read_until("id: e-3\n\n"));
  EXPECT_EQ(client.received(), opening("A:1", 1) + "data: 2\nid: e-2\n\ndata: 3\nid: e-3\n\n");
}

struct ResetCase {
  std::string id;
  std::string reason;
};

class StreamReset : public testing::TestWithParam<ResetCase> {};

TEST_P(StreamReset, TellsWhyAndGoesOnLive) {
  Site site({}, {}, false);
  site.commit({{"A:1", "", "1"}, {"A:1", "", "2"}, {"A:1", "", "3"}});
  site.source.set_floor(2);
  site.hub.start(site.line);
  site.server.start();
  Client client = site.open("/sse/A/1", "Last-Event-ID: " + GetParam().id + "\r\n");
  ASSERT_TRUE(client.read_until("event: reset"));
  site.publish({{"A:1", "", "4"}});
  ASSERT_TRUE(client.read_until("id: e-4\n\n"));
  EXPECT_EQ(client.received(), opening("A:1", 3) + "event: reset\ndata: {\"reason\":\"" +
                                   GetParam().reason + "\",\"requested\":\"" + GetParam().id +
                                   "\",\"floor\":\"2\",\"head\":\"3\"}\nid: e-3\n\n"
                                   "data: 4\nid: e-4\n\n");
}

INSTANTIATE_TEST_SUITE_P(Reasons, StreamReset,
                         testing::Values(ResetCase{"e-1", "expired"}, ResetCase{"other-3", "epoch"},
                                         ResetCase{"e-9", "future"},
                                         ResetCase{"nonsense", "invalid"}),
                         [](const auto& reset) { return reset.param.reason; });

TEST(Stream, AnIdAheadOfThisProcessWaitsInsteadOfBeingReset) {
  Site site;
  const BroadcastBatch late = site.commit({{"A:1", "", "1"}, {"A:1", "", "2"}});
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(client.read_until("\n\n"));
  site.hub.publish(late);
  site.publish({{"A:1", "", "3"}});
  ASSERT_TRUE(client.read_until("id: e-3\n\n"));
  EXPECT_EQ(client.received(), opening("A:1", 2) + "data: 3\nid: e-3\n\n");
}

TEST(Stream, JoinsLiveWithoutGapOrDoubleWhatIsPublishedWhileAPageIsRead) {
  Site site({}, {}, false);
  site.commit({{"A:1", "", "1"}, {"A:1", "", "2"}});
  site.hub.start(site.line);
  site.server.start();
  site.source.set_mode(FakeReplaySource::Mode::hold);
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; }));
  site.publish({{"A:1", "", "3"}});
  site.source.release();
  site.publish({{"A:1", "", "4"}});
  ASSERT_TRUE(client.read_until("id: e-4\n\n"));
  std::string order;
  for (const Frame& frame : frames_of(client.received())) order += frame.data;
  EXPECT_EQ(order, "1234");
}

TEST(Stream, IsToldToComeBackWhenTheDatabaseCannotBeRead) {
  Site site({}, {}, false);
  site.commit({{"A:1", "", "1"}});
  site.hub.start(site.line);
  site.server.start();
  site.source.set_mode(FakeReplaySource::Mode::fail);
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 200 OK\r\n"));
  const std::string_view body = body_of(client.received());
  ASSERT_TRUE(body.starts_with("retry: ") && body.ends_with("\n\n")) << body;
  const int retry = std::stoi(std::string(body.substr(7)));
  EXPECT_GE(retry, 2000);
  EXPECT_LE(retry, 6000);
}

TEST(Stream, IsToldToComeBackBeforeTheHubHasStarted) {
  Site site({}, {}, false);
  site.server.start();
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(body_of(client.received()).starts_with("retry: "));
  site.hub.start(site.line);
  Client again = site.open("/sse/A/1");
  EXPECT_TRUE(again.read_until("connected"));
}

TEST(Stream, AnotherEpochEndsEveryStreamAndResetsThoseWhoComeBack) {
  Site site;
  site.publish({{"A:1", "", "1"}});
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("\n\n"));
  site.source.set_head({"f", 7, 0});
  site.hub.start({"f", 7, 0});
  EXPECT_TRUE(client.read_to_end());
  Client back = site.open("/sse/A/1", "Last-Event-ID: e-1\r\n");
  ASSERT_TRUE(back.read_until("id: f-7\n\nevent: reset\ndata: {\"reason\":\"epoch\""));
}

TEST(Stream, APageThatArrivesAfterTheClientHasGoneIsDropped) {
  Site site({}, {}, false);
  site.commit({{"A:1", "", "1"}});
  site.hub.start(site.line);
  site.server.start();
  site.source.set_mode(FakeReplaySource::Mode::hold);
  Client client = site.open("/sse/A/1", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; }));
  client.reset();
  ASSERT_TRUE(site.wait_for_streams(0));
  site.source.release();
  Client other = site.open("/sse/A/1");
  EXPECT_TRUE(other.read_until("\n\n"));
}

TEST(Stream, APageThatArrivesAfterServerAndHubHaveGoneIsDropped) {
  FakeReplaySource source;
  source.set_mode(FakeReplaySource::Mode::hold);
  source.set_head({"e", 5, 0});
  {
    Hub hub({});
    hub.start({"e", 5, 0});
    ServerOptions options;
    options.listen.front().port = 0;
    Server server(options, hub, source);
    server.start();
    Client client(server.port(), get("/sse/A/1", "Last-Event-ID: e-1\r\n"));
    ASSERT_TRUE(eventually([&] { return source.held() == 1; }));
    server.stop(milliseconds(100));
    EXPECT_EQ(server.streams(), 0u);
  }
  EXPECT_EQ(source.release(), 1u);
}

TEST(Stream, SendsACommentWhenIdle) {
  ServerOptions options;
  options.heartbeat = milliseconds(50);
  Site site(options);
  Client client = site.open("/sse/A/1");
  const std::string start = opening("A:1", 0);
  ASSERT_TRUE(
      client.read_until([&](const std::string& all) { return all.size() >= start.size() + 4; }));
  EXPECT_EQ(client.received().substr(0, start.size() + 4), start + ":\n:\n");
  site.publish({{"A:1", "", "x"}});
  ASSERT_TRUE(client.read_until("data: x\nid: e-1\n\n"));
}

TEST(Stream, GoesOnForAClientThatClosedItsSendingSide) {
  Site site;
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("\n\n"));
  client.finish_sending();
  ASSERT_TRUE(client.read_until("\n\n:\n"));  // asks whether anybody is still there
  site.publish({{"A:1", "", "still here"}});
  EXPECT_TRUE(client.read_until("data: still here\nid: e-1\n\n"));
  client.close();
  EXPECT_TRUE(site.wait_for_streams(1));
  site.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(site.wait_for_streams(0));
}

TEST(Stream, NoticesAClosedClientAtOnce) {
  Site site;  // the heartbeat is 15 s away
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("\n\n"));
  ASSERT_EQ(site.server.streams(), 1u);
  client.close();
  EXPECT_TRUE(site.wait_for_streams(0));
}

TEST(Stream, DiscardsWhatAClientSendsOnIt) {
  Site site;
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("\n\n"));
  ASSERT_TRUE(client.send(std::string(200000, 'x')));
  site.publish({{"A:1", "", "1"}});
  EXPECT_TRUE(client.read_until("id: e-1\n\n"));
}

TEST(Stream, HeadHasTheSameHeadersAndNoBody) {
  Site site;
  Client client(site.port(), "HEAD /sse/A/1 HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(client.read_to_end());
  const std::string start = opening("A:1", 0);
  EXPECT_EQ(client.received(), start.substr(0, start.find("retry")));
}

TEST(Stream, SendsAFrameLargerThanAnySystemCallTakes) {
  Site site;
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("\n\n"));
  const std::string large(3000000, 'x');
  site.publish({{"A:1", "", large}, {"A:1", "", "after"}});
  ASSERT_TRUE(client.read_until("id: e-2\n\n"));
  EXPECT_EQ(client.received(),
            opening("A:1", 0) + "data: " + large + "\nid: e-1\n\ndata: after\nid: e-2\n\n");
}

TEST(Stream, ASlowReaderIsDroppedByTheLogsCapAndDisturbsNobody) {
  HubOptions hub_options;
  hub_options.log_bytes = 256 << 10;
  Site site({}, hub_options);
  Client slow(site.port(), 4096);
  slow.send(get("/sse/A/1"));
  ASSERT_TRUE(slow.read_until("\n\n"));
  Client quick = site.open("/sse/A/1");
  ASSERT_TRUE(quick.read_until("\n\n"));
  ASSERT_TRUE(site.wait_for_streams(2));
  const std::string text(10000, 'x');
  for (int i = 1; i <= 300; ++i) {
    site.publish({{"A:1", "", text}});
    ASSERT_TRUE(quick.read_until("id: e-" + std::to_string(i) + "\n\n"));
  }
  EXPECT_EQ(frames_of(quick.received()).size(), 300u);
  // The slow one gets whole what was under way for it, and can resume behind that.
  ASSERT_TRUE(slow.read_to_end());
  ASSERT_TRUE(site.wait_for_streams(1));
  Client back = site.open("/sse/A/1", "Last-Event-ID: " + last_id_of(slow.received()) + "\r\n");
  ASSERT_TRUE(back.read_until("id: e-300\n\n"));
  EXPECT_EQ(position_of(frames_of(back.received()).front().id),
            position_of(last_id_of(slow.received())) + 1);
}

TEST(Stream, AReaderThatTakesNothingIsDroppedAfterTheBlockedTimeout) {
  ServerOptions options;
  options.blocked_timeout = milliseconds(200);
  Site site(options);
  Client stalled(site.port(), 4096);
  stalled.send(get("/sse/A/1"));
  ASSERT_TRUE(stalled.read_until("\n\n"));
  Client other = site.open("/sse/B/1");
  ASSERT_TRUE(other.read_until("\n\n"));
  for (int i = 0; i < 100; ++i) site.publish({{"A:1", "", std::string(100000, 'x')}});
  EXPECT_TRUE(site.wait_for_streams(1));
  site.publish({{"B:1", "", "fine"}});
  EXPECT_TRUE(other.read_until("fine"));
}

TEST(Stream, ManyOnSeveralShardsAllGetEveryFrame) {
  HubOptions hub_options;
  hub_options.shards = 3;
  Site site({}, hub_options);
  std::vector<Client> clients;
  for (int i = 0; i < 60; ++i) clients.push_back(site.open("/sse/A/1"));
  for (Client& client : clients) ASSERT_TRUE(client.read_until("\n\n"));
  EXPECT_EQ(site.server.streams(), 60u);
  for (int i = 0; i < 50; ++i) site.publish({{"A:1", "", std::to_string(i)}});
  for (Client& client : clients) {
    ASSERT_TRUE(client.read_until("id: e-50\n\n"));
    EXPECT_EQ(frames_of(client.received()).size(), 50u);
  }
}

}  // namespace
}  // namespace spillway::sse::test
