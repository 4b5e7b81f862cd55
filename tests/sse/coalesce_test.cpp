// Channels that wake their readers once in a while: nothing is lost, order stays, fewer system
// calls.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>

#include "sse/segment.hpp"
#include "sse/shard_log.hpp"
#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

using namespace std::chrono_literals;

class CoalescedLog : public testing::Test {
 protected:
  CoalescedLog() { log.restart({"e", 0, 0}); }
  // What is woken by one frame on each of the channels, at that time.
  std::string at(int ms, const std::vector<std::string>& channels) {
    BroadcastBatch batch{log.end(), 0, {}};
    for (const std::string& channel : channels)
      batch.broadcasts.push_back({0, channel, "", "x", false});
    for (SegmentPtr& segment : encode_segments("e", batch)) log.append(std::move(segment));
    std::string woken;
    log.visit_touched([&](Reader& reader) { woken += name(reader); }, time(ms), 10ms);
    std::sort(woken.begin(), woken.end());  // who is first changes
    return woken;
  }
  std::string due(int ms) {
    std::string woken;
    log.visit_due([&](Reader& reader) { woken += name(reader); }, time(ms), 10ms);
    std::sort(woken.begin(), woken.end());  // who is first changes
    return woken;
  }
  static ShardLog::Time time(int ms) { return ShardLog::Time{} + 1h + ms * 1ms; }
  char name(const Reader& reader) const { return &reader == &a ? 'a' : &reader == &b ? 'b' : '*'; }

  ShardLog log{1u << 20};
  Reader a, b, both;
};

TEST_F(CoalescedLog, TheFirstFrameIsToldAtOnceTheNextOnesAtTheEndOfTheWindow) {
  log.subscribe(a, {"a"}, 0);
  EXPECT_EQ(at(0, {"a"}), "a");
  EXPECT_FALSE(log.holding());
  EXPECT_EQ(at(1, {"a"}), "");
  EXPECT_EQ(at(9, {"a", "a"}), "");
  EXPECT_TRUE(log.holding());
  EXPECT_EQ(log.next_window(10ms), time(10));
  EXPECT_EQ(due(9), "");
  EXPECT_EQ(due(10), "a");
  EXPECT_FALSE(log.holding());
  EXPECT_EQ(at(19, {"a"}), "") << "a window follows the one that told something";
  EXPECT_EQ(due(20), "a");
  EXPECT_EQ(due(30), "");
  EXPECT_EQ(at(31, {"a"}), "a");
  log.unsubscribe(a);
}

TEST_F(CoalescedLog, EachChannelHasAWindowOfItsOwn) {
  log.subscribe(a, {"a"}, 0);
  log.subscribe(b, {"b"}, 0);
  log.subscribe(both, {"a", "b"}, 0);
  EXPECT_EQ(at(0, {"a"}), "*a");
  EXPECT_EQ(at(5, {"a", "b"}), "*b");
  EXPECT_EQ(log.next_window(10ms), time(10));
  EXPECT_EQ(due(12), "*a");
  EXPECT_EQ(at(13, {"a", "b"}), "");
  EXPECT_EQ(due(15), "*b");
  EXPECT_EQ(due(22), "*a");
  for (Reader* reader : {&a, &b, &both}) log.unsubscribe(*reader);
}

TEST_F(CoalescedLog, WhoLeavesIsNotWaitedFor) {
  log.subscribe(a, {"a", "x:*"}, 0);
  EXPECT_EQ(at(0, {"a", "x:1"}), "aa");
  EXPECT_EQ(at(1, {"a", "x:1"}), "");
  log.unsubscribe(a);
  EXPECT_FALSE(log.holding());
  EXPECT_EQ(due(10), "");
  log.subscribe(b, {"a"}, log.end());
  EXPECT_EQ(at(11, {"a"}), "b");
  log.unsubscribe(b);
  log.restart({"f", 0, 0});
  EXPECT_FALSE(log.holding());
}

// Random channels, frames and times, against a list: every frame is told within the window, nobody
// more often than once in it.
TEST_F(CoalescedLog, EveryFrameIsToldWithinTheWindowAndNobodyTooOften) {
  std::mt19937 random(7);
  log.subscribe(a, {"c0"}, 0);
  int last = -100, waiting_since = -1, told = 0;
  for (int now = 0; now < 20000; ++now) {
    const auto woken = [&](const std::string& who) {
      for (const char c : who) {
        ASSERT_EQ(c, 'a');
        ASSERT_GE(now - last, 10);
        last = now;
        waiting_since = -1;
        ++told;
      }
    };
    woken(due(now));
    if (random() % (now / 1000 % 2 == 0 ? 3 : 25) == 0) {
      if (waiting_since < 0) waiting_since = now;
      woken(at(now, {"c" + std::to_string(random() % 2), "c0"}));
    }
    if (waiting_since >= 0) {
      ASSERT_LT(now - waiting_since, 10);
    }
    ASSERT_EQ(log.holding(), waiting_since >= 0);
  }
  EXPECT_GT(told, 1000);
  log.unsubscribe(a);
}

ServerOptions with_window(std::chrono::milliseconds window) {
  ServerOptions options;
  options.coalesce = window;
  return options;
}

std::string datas(const Client& client) {
  std::string out;
  for (const Frame& frame : frames_of(client.received())) out += frame.data + " ";
  return out;
}

// With a window that no test waits for.
TEST(Coalesce, ABusyChannelIsHeldBackAndAQuietOneOfTheSameConnectionIsNot) {
  Site site(with_window(10min));
  Client client = site.open("/sse?channel=busy:1&channel=quiet:1");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  site.publish({{"busy:1", "", "first"}});
  ASSERT_TRUE(client.read_until("id: e-1\n\n")) << "at once";
  ASSERT_TRUE(eventually([&] { return site.server.counters().frames == 1; }));
  const auto before = site.server.counters().sends;
  for (int i = 2; i <= 50; ++i) site.publish({{"busy:1", "", std::to_string(i)}});
  site.publish({{"quiet:1", "", "quiet"}});
  ASSERT_TRUE(client.read_until("id: e-51\n\n"));
  std::string expected = "first ";
  for (int i = 2; i <= 50; ++i) expected += std::to_string(i) + " ";
  EXPECT_EQ(datas(client), expected + "quiet ") << "all that was pending, in order";
  ASSERT_TRUE(eventually([&] { return site.server.counters().frames == 51; }));
  EXPECT_EQ(site.server.counters().sends - before, 1u);
}

TEST(Coalesce, AllComesAtTheEndOfTheWindowByFewSystemCalls) {
  Site site(with_window(20ms));
  Client client = site.open("/sse?channel=busy:1");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  const auto before = site.server.counters().sends;
  for (int i = 1; i <= 400; ++i) {
    site.publish({{"busy:1", "", std::to_string(i)}});
    if (i % 100 == 0) std::this_thread::yield();
  }
  ASSERT_TRUE(client.read_until("id: e-400\n\n"));
  const auto frames = frames_of(client.received());
  ASSERT_EQ(frames.size(), 400u);
  for (std::size_t i = 0; i < frames.size(); ++i) ASSERT_EQ(frames[i].data, std::to_string(i + 1));
  EXPECT_LT(site.server.counters().sends - before, 200u);
}

TEST(Coalesce, FramesThatWaitAreDeliveredRatherThanLetGoOf) {
  HubOptions hub;
  hub.log_bytes = 20'000;
  Site site(with_window(10min), hub);
  Client client = site.open("/sse?channel=busy:1");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  for (int i = 1; i <= 300; ++i) {
    site.publish({{"busy:1", "", std::string(100, 'x')}});
    if (i % 10 != 0) continue;
    // A connected frame says when the shard has taken in all so far.
    ASSERT_TRUE(eventually([&] {
      Client probe = site.open("/sse?channel=probe:1");
      return probe.read_until("\n\n") && last_id_of(probe.received()) == "e-" + std::to_string(i);
    }));
  }
  ASSERT_TRUE(client.read_until("id: e-200\n\n"));
  EXPECT_FALSE(client.ended());
  EXPECT_EQ(site.server.counters().ends[static_cast<std::size_t>(StreamEnd::lagged)], 0u);
}

TEST(Coalesce, WhatWaitsIsDeliveredAtTheEnd) {
  Site site(with_window(10min));
  Client client = site.open("/sse?channel=busy:1");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  for (int i = 1; i <= 5; ++i) site.publish({{"busy:1", "", std::to_string(i)}});
  site.server.stop(5s);
  EXPECT_TRUE(client.read_to_end());
  EXPECT_EQ(datas(client), "1 2 3 4 5 ");
}

TEST(Coalesce, WhoJoinsInAWindowGetsWhatIsThereAndWhatFollows) {
  Site site(with_window(10ms));
  Client first = site.open("/sse?channel=busy:1");
  ASSERT_TRUE(first.read_until("id: e-0\n\n"));
  for (int i = 1; i <= 5; ++i) site.publish({{"busy:1", "", std::to_string(i)}});
  Client second = site.open("/sse?channel=busy:1", "Last-Event-ID: e-2\r\n");
  for (int i = 6; i <= 9; ++i) site.publish({{"busy:1", "", std::to_string(i)}});
  ASSERT_TRUE(second.read_until("id: e-9\n\n"));
  ASSERT_TRUE(first.read_until("id: e-9\n\n"));
  EXPECT_EQ(datas(first), "1 2 3 4 5 6 7 8 9 ");
  EXPECT_EQ(datas(second), "3 4 5 6 7 8 9 ");
}

}  // namespace
}  // namespace spillway::sse::test
