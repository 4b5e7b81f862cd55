// Latest channels beside ordinary ones, under random publishes, joins and cuts, with logs so small
// that memory, database and the join of both are hit: at each join the state shown is the newest
// frame at or before the start, or a newer one; on a connection no frame of a latest channel is
// missing behind it, none comes twice, no id goes back; and the ordinary channels are exact over
// all connections.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

constexpr int kBatches = 900;
constexpr int kClients = 8;

struct Told {  // what a frame says of itself: "channel position …"
  std::string channel;
  std::uint64_t position = 0;
  [[nodiscard]] bool latest() const { return channel.starts_with("L:"); }
};

Told told_by(const Frame& frame) {
  Told told;
  const std::size_t space = frame.data.find(' ');
  told.channel = frame.data.substr(0, space);
  told.position = std::stoull(frame.data.substr(space + 1));
  return told;
}

class LatestWorld {
 public:
  explicit LatestWorld(unsigned seed) : seed_(seed), site_({}, hub_options(seed), false) {
    site_.source.set_mode(seed % 2 == 0 ? FakeReplaySource::Mode::at_once
                                        : FakeReplaySource::Mode::other_thread);
    site_.hub.on_gap([this] { gap_ = true; });
    site_.hub.start(site_.line);
    site_.server.start();
  }

  void run() {
    std::thread feeder([this] { feed(); });
    std::thread publisher([this] { publish(); });
    std::vector<std::thread> clients;
    for (int i = 0; i < kClients; ++i) clients.emplace_back([this, i] { read(i); });
    publisher.join();
    published_ = true;
    for (std::thread& client : clients) client.join();
    done_ = true;
    feeder.join();
    EXPECT_GT(states_, 100);
  }

 private:
  static HubOptions hub_options(unsigned seed) {
    HubOptions options;
    options.log_bytes = 5000 + 8000 * (seed % 4);
    options.shards = 1 + seed % 2;
    options.latest.patterns = {"L:*"};
    options.latest.channels = seed % 3 == 0 ? 3 : 100;  // fewer than there are
    return options;
  }

  void feed() {
    while (!done_) {
      eventually([&] { return gap_ || done_; }, milliseconds(3));
      gap_ = false;
      while (auto batch = site_.source.since(site_.hub.head().position, 20))
        site_.hub.publish(std::move(*batch));
    }
  }

  void publish() {
    std::mt19937 random(seed_ * 100);
    std::vector<BroadcastBatch> held;
    for (int i = 0; i < kBatches; ++i) {
      std::vector<Message> messages;
      for (std::size_t n = 1 + random() % 4; n > 0; --n) {
        const std::string channel =
            random() % 2 == 0 ? "L:" + std::to_string(random() % (i < kBatches / 2 ? 3 : 6))
                              : "A:" + std::to_string(random() % 3);
        messages.push_back({channel, "",
                            channel + " " +
                                std::to_string(site_.line.position + 1 + messages.size()) + " " +
                                std::string(random() % 150, 'x')});
      }
      held.push_back(site_.commit(messages));
      // Some are left to the feed: another process, or one that was cut off.
      if (random() % 6 == 0) held.pop_back();
      if (random() % 3 != 0) {
        std::shuffle(held.begin(), held.end(), random);
        for (BroadcastBatch& batch : held) site_.hub.publish(std::move(batch));
        held.clear();
      }
      eventually([&] { return connects_ >= i; }, milliseconds(3));
    }
    for (BroadcastBatch& batch : held) site_.hub.publish(std::move(batch));
    gap_ = true;
  }

  // The newest position of each latest channel up to there.
  std::map<std::string, std::uint64_t> state_at(std::uint64_t position) const {
    std::map<std::string, std::uint64_t> state;
    if (const auto all = site_.source.since(0, position))
      for (const Broadcast& broadcast : all->broadcasts)
        if (broadcast.channel.starts_with("L:")) state[broadcast.channel] = broadcast.position;
    return state;
  }

  void read(int number) {
    std::mt19937 random(seed_ * 1000 + static_cast<unsigned>(number));
    static const std::vector<std::vector<std::string>> kChoices = {
        {"L:1", "A:1"}, {"L:*", "A:*"}, {"A:2", "L:0", "L:4"}, {"L:2"}, {"L:*"}};
    const auto& channels = kChoices[static_cast<std::size_t>(number) % kChoices.size()];
    const auto wants = [&](const std::string& channel) {
      return std::any_of(channels.begin(), channels.end(), [&](const std::string& name) {
        return name.ends_with(":*") ? channel.starts_with(name.substr(0, name.size() - 1))
                                    : name == channel;
      });
    };
    const bool ordinary = std::any_of(channels.begin(), channels.end(),
                                      [](const std::string& name) { return name[0] == 'A'; });
    std::string target = "/sse?";
    for (const std::string& channel : channels) target += "channel=" + channel + "&";
    std::string last_id = "e-0";
    std::vector<std::uint64_t> seen;  // of ordinary channels
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(50);
    for (bool last = false; !last;) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "client " << number << " seed " << seed_;
      last = published_ && site_.hub.head().position ==
                               site_.source.since(0, 1u << 30)->broadcasts.back().position;
      const auto before = state_at(position_of(last_id));
      Client client = site_.open(target, "Last-Event-ID: " + last_id + "\r\n");
      ++connects_;
      const std::size_t cut = last ? 1u << 30 : random() % 6000;
      const auto complete = [&] {  // at the end, all that there is
        const auto state = state_at(1u << 30);
        return std::all_of(state.begin(), state.end(),
                           [&](const auto& one) {
                             return !wants(one.first) ||
                                    client.received().find("data: " + one.first + " " +
                                                           std::to_string(one.second) + " ") !=
                                        std::string::npos;
                           }) &&
               client.read_some(1, milliseconds(300)) == false;
      };
      if (last) {
        ASSERT_TRUE(client.read_until(
            [&](const std::string&) { return client.ended() || complete(); }, milliseconds(20000)))
            << "client " << number << " seed " << seed_;
        if (client.ended()) last = false;  // too slow: once more
      } else {
        while (client.received().size() < cut &&
               client.read_some(
                   std::min<std::size_t>(cut - client.received().size(), 1 + random() % 999),
                   milliseconds(30))) {
        }
      }
      // Where all is latest, a shard that is behind the last one starts where it stands.
      check(frames_of(client.received()), ordinary ? position_of(last_id) : 0, before, wants, seen);
      if (const std::string id = last_id_of(client.received()); !id.empty()) last_id = id;
      if (random() % 2 == 0) client.reset();
    }
    std::vector<std::uint64_t> expected;
    const auto all = site_.source.since(0, 1u << 30);
    ASSERT_TRUE(all);
    for (const Broadcast& broadcast : all->broadcasts)
      if (broadcast.channel.starts_with("A:") && wants(broadcast.channel))
        expected.push_back(broadcast.position);
    EXPECT_EQ(seen, expected) << "client " << number << ", seed " << seed_;
  }

  template <class Wants>
  void check(const std::vector<Frame>& frames, std::uint64_t previous,
             const std::map<std::string, std::uint64_t>& before, const Wants& wants,
             std::vector<std::uint64_t>& seen) {
    std::map<std::string, std::uint64_t> newest;
    bool began = false;  // the state has been shown
    for (const Frame& frame : frames) {
      ASSERT_NE(frame.event, "reset");
      ASSERT_GE(position_of(frame.id), previous) << "an id went back";
      previous = position_of(frame.id);
      const Told told = told_by(frame);
      ASSERT_TRUE(wants(told.channel));
      if (told.latest()) {
        ASSERT_GT(told.position, newest[told.channel]) << "doubled, or went back";
        newest[told.channel] = told.position;
        continue;
      }
      seen.push_back(told.position);
      ASSERT_EQ(told.position, position_of(frame.id));
      if (std::exchange(began, true)) continue;
      for (const auto& [channel, position] : before) {
        if (!wants(channel)) continue;
        ++states_;
        ASSERT_GE(newest[channel], position) << channel << " is not shown as it was";
      }
    }
  }

  const unsigned seed_;
  Site site_;
  std::atomic<bool> gap_{false};
  std::atomic<bool> published_{false};
  std::atomic<bool> done_{false};
  std::atomic<int> connects_{0};
  std::atomic<int> states_{0};
};

class LatestThenLive : public testing::TestWithParam<unsigned> {};

TEST_P(LatestThenLive, TheStateIsShownAndOrdinaryChannelsAreExact) {
  LatestWorld(GetParam()).run();
}

INSTANTIATE_TEST_SUITE_P(Seeds, LatestThenLive, testing::Range(1u, 9u));

}  // namespace
}  // namespace spillway::sse::test
