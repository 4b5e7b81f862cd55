// The hub's own promises; the order of batches is tested with the sequencer, delivery with streams.
#include "sse/hub.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

BroadcastBatch batch(std::uint64_t base, std::string data) {
  return {base, 0, {{base + 1, "A:1", "", std::move(data), false}}};
}

TEST(Hub, TellsOfAGapEachTimeSomethingIsParkedAndMayBeAskedThen) {
  Hub hub({});
  std::atomic<int> gaps{0};
  hub.on_gap([&] {
    EXPECT_TRUE(hub.has_gap());
    ++gaps;
  });
  hub.start({"e", 0, 0});
  EXPECT_TRUE(hub.started());
  hub.publish(batch(2, "c"));
  hub.publish(batch(1, "b"));
  EXPECT_EQ(gaps, 2);
  hub.publish(batch(0, "a"));
  EXPECT_EQ(gaps, 2);
  EXPECT_FALSE(hub.has_gap());
  EXPECT_EQ(hub.head(), (Head{"e", 3, 0}));
}

TEST(Hub, AGapMayBeFilledFromTheCallback) {
  Site site;
  const BroadcastBatch first = site.commit({{"A:1", "", "1"}, {"A:1", "", "2"}});
  site.hub.on_gap([&] { site.hub.publish(first); });
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("connected"));
  site.publish({{"A:1", "", "3"}});
  EXPECT_TRUE(client.read_until("data: 1\nid: e-1\n\ndata: 2\nid: e-2\n\ndata: 3\nid: e-3\n\n"));
}

TEST(Hub, RefusesAnEpochThatCannotStandInAnId) {
  Hub hub({});
  for (const char* epoch : {"", "a-b", "UPPER", "12345678901234567"})
    EXPECT_THROW(hub.start({epoch, 0, 0}), std::invalid_argument);
  EXPECT_FALSE(hub.started());
}

TEST(Hub, SkippedEphemeralsReleaseWhatWaitedForThem) {
  Site site;
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("connected"));
  site.hub.publish({0, 2, {{0, "A:1", "", "now", true}, {1, "A:1", "", "1", false}}});
  EXPECT_EQ(site.hub.head(), (Head{"e", 0, 0}));
  site.hub.skip_ephemeral(2);
  EXPECT_TRUE(client.read_until("data: now\nid: e-0\n\ndata: 1\nid: e-1\n\n"));
  EXPECT_EQ(site.hub.head(), (Head{"e", 1, 3}));
}

TEST(Hub, WithoutAServerItsMemoryStaysBoundedAndStreamsStartAtTheHead) {
  HubOptions options;
  options.log_bytes = 100000;
  Site site({}, options, false);
  site.hub.start(site.line);
  for (int i = 0; i < 1000; ++i) site.publish({{"A:1", "", std::string(1000, 'x')}});
  site.server.start();
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("id: e-1000\n\n"));
  Client old = site.open("/sse/A/1", "Last-Event-ID: e-1\r\n");
  ASSERT_TRUE(old.read_until("id: e-1000\n\n"));
  EXPECT_EQ(frames_of(old.received()).size(), 999u);
}

TEST(Hub, DataThatIsNotUtf8OrBreaksLinesDoesNotBreakTheStream) {
  Site site;
  Client client = site.open("/sse/A/1");
  ASSERT_TRUE(client.read_until("connected"));
  site.publish({{"A:1", "a\nb", "\xFF\n\rid: x"}});
  EXPECT_TRUE(
      client.read_until("event: a b\ndata: \xEF\xBF\xBD\ndata: \ndata: id: x\nid: e-1\n\n"));
}

}  // namespace
}  // namespace spillway::sse::test
