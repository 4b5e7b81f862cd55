#include "sse/subscribers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <thread>

#include "sse/frame.hpp"
#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

using Places = Subscribers::Places;

std::optional<Places> join(Subscribers& subscribers, const std::vector<std::string>& channels) {
  auto joined = subscribers.join(channels);
  if (auto* places = std::get_if<Places>(&joined)) return std::move(*places);
  return std::nullopt;
}

std::vector<Subscribers::Count> sorted(std::vector<Subscribers::Count> counts) {
  std::sort(counts.begin(), counts.end(),
            [](const auto& a, const auto& b) { return a.channel < b.channel; });
  return counts;
}

TEST(Subscribers, AreCountedWhileTheirPlacesLast) {
  Subscribers subscribers(0);
  auto first = join(subscribers, {"A:1", "A:*"});
  auto second = join(subscribers, {"A:1"});
  EXPECT_EQ(subscribers.count("A:1"), 2u);
  EXPECT_EQ(subscribers.count("A:*"), 1u);
  EXPECT_EQ(subscribers.count("A:2"), 0u);
  EXPECT_EQ(sorted(subscribers.counts()),
            (std::vector<Subscribers::Count>{{"A:*", 1}, {"A:1", 2}}));
  EXPECT_EQ(subscribers.counts("A:1"), (std::vector<Subscribers::Count>{{"A:1", 2}}));
  Places moved = std::move(*first);
  first.reset();
  EXPECT_EQ(subscribers.count("A:1"), 2u);
  moved = {};
  second.reset();
  EXPECT_TRUE(subscribers.counts().empty());
}

TEST(Subscribers, OverTheLimitNoneOfTheChannelsIsTaken) {
  Subscribers subscribers(2);
  const auto one = join(subscribers, {"A:1"});
  auto two = join(subscribers, {"A:1", "A:*"});
  const auto full = subscribers.join({"B:1", "A:1", "C:1"});
  ASSERT_TRUE(std::holds_alternative<Subscribers::Full>(full));
  EXPECT_EQ(std::get<Subscribers::Full>(full).channel, "A:1");
  EXPECT_EQ(subscribers.count("B:1"), 0u);
  EXPECT_TRUE(join(subscribers, {"A:*"})) << "a pattern counts for itself";
  two.reset();
  EXPECT_TRUE(join(subscribers, {"A:1"}));
}

TEST(Subscribers, OnlyWhatHasChangedIsTaken) {
  Subscribers subscribers(0);
  int told = 0;
  subscribers.on_change([&] { ++told; });
  auto one = join(subscribers, {"A:1"});
  const auto two = join(subscribers, {"A:1", "B:1"});
  EXPECT_EQ(told, 1) << "once until somebody looks";
  auto changes = subscribers.take_changes();
  EXPECT_FALSE(changes.all);
  EXPECT_EQ(sorted(changes.counts), (std::vector<Subscribers::Count>{{"A:1", 2}, {"B:1", 1}}));
  EXPECT_TRUE(subscribers.take_changes().counts.empty());
  one.reset();
  EXPECT_EQ(told, 2);
  { const auto brief = join(subscribers, {"C:1"}); }
  changes = subscribers.take_changes();
  EXPECT_EQ(sorted(changes.counts), (std::vector<Subscribers::Count>{{"A:1", 1}, {"C:1", 0}}));
  subscribers.count_all_as_changed();
  changes = subscribers.take_changes();
  EXPECT_TRUE(changes.all);
  EXPECT_EQ(sorted(changes.counts), (std::vector<Subscribers::Count>{{"A:1", 1}, {"B:1", 1}}));
}

TEST(Subscribers, ChangesThatNobodyTakesAreBounded) {
  Subscribers subscribers(0);
  const auto stays = join(subscribers, {"stays"});
  for (int i = 0; i < 100'000; ++i) join(subscribers, {"A:" + std::to_string(i)});
  const auto changes = subscribers.take_changes();
  EXPECT_TRUE(changes.all);
  EXPECT_EQ(changes.counts, (std::vector<Subscribers::Count>{{"stays", 1}}));
  EXPECT_FALSE(subscribers.take_changes().all);
}

// Whoever applies what it takes has the true counts in the end, however threads interleave.
TEST(Subscribers, TakenChangesAddUpWhateverManyThreadsDo) {
  Subscribers subscribers(3);
  std::map<std::string, std::uint32_t> known;
  const auto take = [&] {
    auto changes = subscribers.take_changes();
    if (changes.all) known.clear();
    for (auto& [channel, count] : changes.counts) {
      if (count == 0)
        known.erase(channel);
      else
        known[channel] = count;
    }
  };
  std::vector<std::vector<Places>> kept(4);
  std::atomic<int> running{4};
  std::atomic<bool> over{false};
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      auto& places = kept[t];
      for (int i = 0; i < 20'000; ++i) {
        if (places.size() > 40 || (random() % 2 == 0 && !places.empty())) {
          std::swap(places[random() % places.size()], places.back());
          places.pop_back();
        } else {
          std::vector<std::string> channels;
          const std::size_t first = random() % 30;
          for (std::size_t k = 0; k <= random() % 3; ++k)
            channels.push_back("A:" + std::to_string(first + k));
          if (auto joined = join(subscribers, channels)) places.push_back(std::move(*joined));
        }
        if (subscribers.count("A:7") > 3) over = true;
        if (i % 997 == 0) subscribers.count_all_as_changed();
      }
      --running;
    });
  while (running > 0) take();
  threads.clear();
  take();
  EXPECT_FALSE(over);
  std::map<std::string, std::uint32_t> expected;
  std::size_t held = 0;
  for (const auto& places : kept)
    for (const Places& one : places) held += one.size();
  std::size_t counted = 0;
  for (const auto& [channel, count] : subscribers.counts()) {
    expected[channel] = count;
    counted += count;
  }
  EXPECT_EQ(counted, held);
  EXPECT_EQ(known, expected);
}

// --- on the wire ---

TEST(Subscribers, OverTheLimitOfAChannelAClientIsToldToComeBackAndWhy) {
  ServerOptions options;
  options.max_subscribers_per_channel = 2;
  HubOptions hub;
  hub.shards = 2;  // the limit is the process's, not a shard's
  Site site(options, hub);
  Client one = site.open("/sse/Room/1");
  Client two = site.open("/sse?channel=Room:1&channel=Room:2");
  ASSERT_TRUE(one.read_until("\n\n"));
  ASSERT_TRUE(two.read_until("\n\n"));
  Client three = site.open("/sse?channel=Room:3&channel=Room:1");
  ASSERT_TRUE(three.read_to_end());
  const std::string_view body = body_of(three.received());
  EXPECT_TRUE(three.received().starts_with(kStreamHead));
  EXPECT_TRUE(body.starts_with("retry: ")) << body;
  EXPECT_TRUE(body.ends_with("\n: the channel Room:1 has its limit of 2 subscribers\n\n")) << body;
  EXPECT_EQ(body.find("data:"), std::string_view::npos);
  EXPECT_EQ(site.server.subscribers().count("Room:3"), 0u);
  // Others are not affected, and none of the old ones was given up.
  Client other = site.open("/sse/Room/2");
  ASSERT_TRUE(other.read_until("connected"));
  Client pattern = site.open("/sse?channel=Room:*");
  ASSERT_TRUE(pattern.read_until("connected"));
  site.publish({{"Room:1", "said", "hi"}});
  EXPECT_TRUE(one.read_until("hi"));
  EXPECT_TRUE(two.read_until("hi"));
  // Whoever goes, however it goes, leaves room.
  one.reset();
  ASSERT_TRUE(eventually([&] { return site.server.subscribers().count("Room:1") == 1; }));
  Client four = site.open("/sse/Room/1");
  EXPECT_TRUE(four.read_until("connected"));
  two.close();
  four.finish_sending();
  EXPECT_TRUE(eventually([&] { return site.server.subscribers().count("Room:1") == 1; }))
      << "one that only stopped sending still listens";
  four.close();
  EXPECT_TRUE(eventually([&] { return site.server.subscribers().count("Room:1") == 0; }));
}

TEST(Subscribers, AClientThatResumesFromTheDatabaseCounts) {
  Site site;
  site.source.set_mode(FakeReplaySource::Mode::hold);
  Client client = site.open("/sse/Room/1?last_event_id=earliest");
  ASSERT_TRUE(eventually([&] { return site.source.held() == 1; }));
  EXPECT_EQ(site.server.subscribers().count("Room:1"), 1u);
  site.source.release_with_failure();
  ASSERT_TRUE(client.read_to_end());
  EXPECT_TRUE(eventually([&] { return site.server.subscribers().count("Room:1") == 0; }));
}

}  // namespace
}  // namespace spillway::sse::test
