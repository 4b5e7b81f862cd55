// What the streams count, after known work over real sockets.
#include "sse/counters.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

using std::chrono::steady_clock;

constexpr std::array<std::uint64_t, 2> kBounds{10, 100};

template <class Enum>
std::uint64_t of(const std::array<std::uint64_t, CountBy<Enum>::size>& counts, Enum which) {
  return counts[static_cast<std::size_t>(which)];
}

template <class Enum>
std::set<std::string_view> names() {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < CountBy<Enum>::size; ++i)
    names.insert(to_string(static_cast<Enum>(i)));
  return names;
}

bool ended(const Site& site, StreamEnd why) {
  return eventually([&] { return of(site.server.counters().ends, why) == 1; });
}

TEST(Counters, AnObservationStandsInTheFirstBucketThatHoldsIt) {
  Histogram<kBounds> histogram;
  for (const std::uint64_t value : {0, 10, 11, 100, 101, 5000}) histogram.observe(value);
  const auto values = histogram.values();
  EXPECT_EQ(values.buckets, (std::array<std::uint64_t, 3>{2, 2, 2}));
  EXPECT_EQ(values.sum, 5222u);
  EXPECT_EQ(values.observations(), 6u);
}

TEST(Counters, EachReasonHasANameOfItsOwn) {
  EXPECT_EQ(names<StreamEnd>().size(), CountBy<StreamEnd>::size);
  EXPECT_EQ(names<Refusal>().size(), CountBy<Refusal>::size);
  EXPECT_EQ(names<ResumeSource>().size(), CountBy<ResumeSource>::size);
}

TEST(Counters, FramesBytesAndSystemCallsOfABurst) {
  Site site({}, {.shards = 1});
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  site.publish({{"A:1", "", "1"}, {"B:1", "", "2"}, {"A:1", "", "3"}, {"A:1", "", "4"}});
  ASSERT_TRUE(client.read_until("id: e-4\n\n"));
  ASSERT_TRUE(eventually([&] { return site.server.counters().frames == 3; }));
  const ServerCounters counters = site.server.counters();
  EXPECT_EQ(counters.sends, 2u);  // the opening, and the burst
  EXPECT_EQ(counters.bytes, client.received().size());
  EXPECT_EQ(counters.frames_replayed, 0u);
  EXPECT_EQ(counters.streams, 1u);
  EXPECT_EQ(counters.streams_opened, 1u);
  EXPECT_EQ(counters.connections_accepted, 1u);
  EXPECT_EQ(counters.log_positions, 4u);
  EXPECT_GT(counters.log_bytes, 0u);
  EXPECT_EQ(counters.sessions, 0u);  // it became the stream
}

TEST(Counters, AFrameThatIsTakenInPartsCountsOnce) {
  Site site({}, {.shards = 1});
  Client slow(site.port(), 4096);
  ASSERT_TRUE(slow.send(get("/sse/A/1")));
  ASSERT_TRUE(slow.read_until("id: e-0\n\n"));
  for (int i = 0; i < 20; ++i)
    site.publish({{"A:1", "", std::string(100'000, 'x')}, {"A:1", "", "small"}});
  // Some of it waits for the client.
  ASSERT_TRUE(eventually([&] { return site.server.counters().deferred > 0; }));
  ASSERT_TRUE(slow.read_until("id: e-40\n\n"));
  ASSERT_TRUE(eventually([&] { return site.server.counters().bytes == slow.received().size(); }));
  EXPECT_EQ(site.server.counters().frames, 40u);
}

TEST(Counters, TimeToTheSocketIsMeasuredForWhatThisProcessCommitted) {
  Site site({}, {.shards = 1});
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  site.publish({{"A:1", "", "of another process"}});
  ASSERT_TRUE(client.read_until("id: e-1\n\n"));
  BroadcastBatch batch = site.commit({{"A:1", "", "ours"}, {"A:1", "", "ours too"}});
  batch.committed = steady_clock::now() - std::chrono::seconds(30);
  site.hub.publish(batch);
  ASSERT_TRUE(client.read_until("id: e-3\n\n"));
  ASSERT_TRUE(eventually([&] { return site.server.counters().delivery.observations() > 0; }));
  // Whoever resumes is sent it late, but has not waited for it.
  Client late = site.open("/sse/A/1", "Last-Event-ID: e-1\r\n");
  ASSERT_TRUE(late.read_until("id: e-3\n\n"));
  ASSERT_TRUE(eventually([&] { return site.server.counters().frames == 5; }));
  const auto delivery = site.server.counters().delivery;
  EXPECT_EQ(delivery.observations(), 1u);  // one for each system call
  EXPECT_EQ(delivery.buckets.back(), 1u);
  EXPECT_GE(delivery.sum, 30'000'000'000u);
}

TEST(Counters, WhereAStreamWasResumedFrom) {
  Site site({}, {.shards = 1}, false);
  site.commit({{"A:1", "", "1"}, {"A:1", "", "2"}, {"A:1", "", "3"}});  // before this process
  site.source.set_floor(1);
  site.hub.start(site.line);
  site.server.start();
  site.publish({{"A:1", "", "4"}});
  const auto open = [&](const std::string& id) {
    Client client = site.open("/sse/A/1", id.empty() ? "" : "Last-Event-ID: " + id + "\r\n");
    EXPECT_TRUE(client.read_until("id: e-4\n\n")) << id;
  };
  for (const char* id : {"", "e-4", "e-3", "e-1", "e-0", "e-99", "other-1", "nonsense"}) open(id);
  site.source.set_mode(FakeReplaySource::Mode::fail);
  Client unlucky = site.open("/sse/A/1", "Last-Event-ID: e-2\r\n");
  ASSERT_TRUE(unlucky.read_to_end());

  const ServerCounters counters = site.server.counters();
  EXPECT_EQ(of(counters.resumes, ResumeSource::fresh), 1u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::memory), 2u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::database), 1u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::reset_expired), 1u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::reset_future), 1u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::reset_epoch), 1u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::reset_invalid), 1u);
  EXPECT_EQ(of(counters.resumes, ResumeSource::unavailable), 1u);
  EXPECT_EQ(counters.frames_replayed, 3u);  // 2 to 4, for e-1
  EXPECT_EQ(counters.pages_waiting, 0u);
  EXPECT_EQ(counters.pages_read, 6u);  // e-1, four resets, and the one that could not be read
  EXPECT_TRUE(ended(site, StreamEnd::unavailable));
}

TEST(Counters, APageThatIsUnderWayWaits) {
  Site site({}, {.shards = 1}, false);
  site.commit({{"A:1", "", "1"}});
  site.source.set_mode(FakeReplaySource::Mode::hold);
  site.hub.start(site.line);
  site.server.start();
  Client client = site.open("/sse/A/1?last_event_id=earliest");
  ASSERT_TRUE(eventually([&] { return site.server.counters().pages_waiting == 1; }));
  client.reset();  // its answer comes all the same
  ASSERT_TRUE(ended(site, StreamEnd::closed));
  site.source.release();
  ASSERT_TRUE(eventually([&] { return site.server.counters().pages_waiting == 0; }));
  EXPECT_EQ(site.server.counters().pages_read, 1u);
}

TEST(Counters, AClientThatGoesHasClosed) {
  Site site;
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("\n\n"));
  client.reset();
  EXPECT_TRUE(ended(site, StreamEnd::closed));
}

TEST(Counters, OneThatTakesNothingIsBlocked) {
  ServerOptions options;
  options.blocked_timeout = milliseconds(200);
  Site site(options, {.shards = 1});
  Client client(site.port(), 4096);
  ASSERT_TRUE(client.send(get("/sse/A/1")));
  ASSERT_TRUE(client.read_until("\n\n"));
  site.publish({{"A:1", "", std::string(8u << 20, 'x')}});
  EXPECT_TRUE(ended(site, StreamEnd::blocked));
}

TEST(Counters, OneThatIsTooFarBehindHasLagged) {
  HubOptions small;
  small.log_bytes = 1u << 20;
  small.shards = 1;
  Site site({}, small);
  Client client(site.port(), 4096);
  ASSERT_TRUE(client.send(get("/sse/A/1")));
  ASSERT_TRUE(client.read_until("\n\n"));
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t end = site.hub.head().position;
    site.publish({{"A:1", "", std::string(100'000, 'x')}});
    ASSERT_TRUE(eventually([&] { return site.hub.head().position > end; }));
  }
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(ended(site, StreamEnd::lagged));
}

TEST(Counters, ANewLineOfPositionsRestartsAndTheEndOfTheServerShutsDown) {
  Site site({}, {.shards = 1});
  Client first = site.open("/sse/A/1");
  ASSERT_TRUE(first.read_until("\n\n"));
  site.hub.start({"other", 0, 0});
  ASSERT_TRUE(first.read_to_end());
  EXPECT_TRUE(ended(site, StreamEnd::restarted));
  Client second = site.open("/sse/A/1");
  ASSERT_TRUE(second.read_until("\n\n"));
  site.server.stop(kPatience);
  EXPECT_TRUE(ended(site, StreamEnd::shutdown));
}

TEST(Counters, RefusalsAndAnswers) {
  ServerOptions options;
  options.max_connections = 1;
  Site site(options, {.shards = 1});
  Client first = site.open("/sse/A/1");
  ASSERT_TRUE(first.read_until("\n\n"));
  Client second = site.open("/sse/A/1");
  ASSERT_TRUE(second.read_to_end());
  Client lost = site.open("/nowhere");
  ASSERT_TRUE(lost.read_to_end());
  const ServerCounters counters = site.server.counters();
  EXPECT_EQ(of(counters.refusals, Refusal::connections), 1u);
  EXPECT_EQ(counters.responses[4], 1u);
  EXPECT_EQ(counters.streams_opened, 1u);
  EXPECT_EQ(counters.connections_accepted, 3u);
}

}  // namespace
}  // namespace spillway::sse::test
