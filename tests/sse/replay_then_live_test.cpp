// The property the whole layer stands for: whatever order batches are published in, wherever a
// client's connection is cut, a client that resumes by the id of its last complete frame sees each
// durable frame of its channels exactly once, in order. Logs are small, so memory, database and the
// join of both are all hit.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

constexpr int kPublishers = 3;
constexpr int kBatchesEach = 400;
constexpr int kClients = 10;

bool carries(const std::vector<std::string>& wanted, const std::string& channel) {
  return std::any_of(wanted.begin(), wanted.end(), [&](const std::string& name) {
    return name.ends_with(":*") ? channel.starts_with(name.substr(0, name.size() - 1))
                                : name == channel;
  });
}

class World {
 public:
  explicit World(unsigned seed) : seed_(seed), site_({}, hub_options(seed), false) {
    site_.source.set_mode(seed % 2 == 0 ? FakeReplaySource::Mode::at_once
                                        : FakeReplaySource::Mode::other_thread);
    site_.hub.on_gap([this] { gap_ = true; });
    site_.hub.start(site_.line);
    site_.server.start();
  }

  void run() {
    std::vector<std::thread> threads;
    std::thread feeder([this] { feed(); });
    for (int i = 0; i < kPublishers; ++i) threads.emplace_back([this, i] { publish(i); });
    std::vector<std::thread> clients;
    for (int i = 0; i < kClients; ++i) clients.emplace_back([this, i] { read(i); });
    for (std::thread& thread : threads) thread.join();
    published_ = true;
    for (std::thread& client : clients) client.join();
    done_ = true;
    feeder.join();
    EXPECT_EQ(site_.hub.head().position, site_.line.position);
    EXPECT_FALSE(site_.hub.has_gap());
    EXPECT_GT(site_.source.reads(), 0u);
  }

 private:
  static HubOptions hub_options(unsigned seed) {
    HubOptions options;
    options.log_bytes = 6000 + 10000 * (seed % 4);
    options.parked_bytes = 2000 + 10000 * (seed % 3);
    options.shards = 1 + seed % 3;
    return options;
  }

  // What a processor does: reads the hole from the database when told so, and now and then anyway.
  void feed() {
    while (!done_) {
      eventually([&] { return gap_ || done_; }, milliseconds(5));
      gap_ = false;
      std::uint64_t ephemeral = 0;
      {
        const std::lock_guard lock(line_);
        ephemeral = site_.line.ephemeral;
      }
      while (auto batch = site_.source.since(site_.hub.head().position, 20)) {
        batch->base_ephemeral = 0;
        site_.hub.publish(std::move(*batch));
      }
      site_.hub.skip_ephemeral(ephemeral);
    }
  }

  void publish(int number) {
    std::mt19937 random(seed_ * 100 + static_cast<unsigned>(number));
    std::vector<BroadcastBatch> held;
    for (int i = 0; i < kBatchesEach; ++i) {
      std::vector<Message> messages;
      for (std::size_t n = 1 + random() % 4; n > 0; --n) {
        const std::string channel = "A:" + std::to_string(random() % 4);
        const bool ephemeral = random() % 8 == 0;
        messages.push_back({random() % 5 == 0 ? "B:1" : channel, ephemeral ? "ephemeral" : "",
                            std::string(random() % 120, 'x') + "\nline", ephemeral});
      }
      {
        const std::lock_guard lock(line_);
        held.push_back(site_.commit(messages));
      }
      if (random() % 3 != 0) {
        std::shuffle(held.begin(), held.end(), random);
        for (BroadcastBatch& batch : held) site_.hub.publish(std::move(batch));
        held.clear();
      }
      // Goes along with the clients, so that they meet it at every stage.
      eventually([&] { return connects_ >= i; }, milliseconds(3));
    }
    for (BroadcastBatch& batch : held) site_.hub.publish(std::move(batch));
  }

  void read(int number) {
    std::mt19937 random(seed_ * 1000 + static_cast<unsigned>(number));
    static const std::vector<std::vector<std::string>> kChoices = {
        {"A:1"}, {"A:2", "B:1"}, {"A:*"}, {"A:*", "A:3", "B:1"}, {"B:1"}};
    const auto& channels = kChoices[static_cast<std::size_t>(number) % kChoices.size()];
    std::string target = "/sse?";
    for (const std::string& channel : channels) target += "channel=" + channel + "&";
    std::string last_id = "e-0";
    std::vector<std::uint64_t> seen;
    std::vector<std::uint64_t> expected;  // known once everything is published
    const auto end = std::chrono::steady_clock::now() + milliseconds(90000);
    for (;;) {
      if (published_ && expected.empty()) expected = expected_for(channels);
      const bool late = std::chrono::steady_clock::now() > end;
      if (late || (!expected.empty() && seen.size() >= expected.size())) {
        EXPECT_EQ(seen, expected) << "client " << number << ", seed " << seed_;
        return;
      }
      Client client = site_.open(target, "Last-Event-ID: " + last_id + "\r\n");
      ++connects_;
      const std::size_t cut = random() % 6000;
      while (client.received().size() < cut &&
             client.read_some(
                 std::min<std::size_t>(cut - client.received().size(), 1 + random() % 999),
                 milliseconds(30))) {
      }
      std::uint64_t previous = position_of(last_id);
      for (const Frame& frame : frames_of(client.received())) {
        EXPECT_NE(frame.event, "reset");
        EXPECT_GE(position_of(frame.id), previous) << "an id went back";
        if (frame.event != "ephemeral") {
          seen.push_back(position_of(frame.id));
        }
        previous = position_of(frame.id);
      }
      if (const std::string id = last_id_of(client.received()); !id.empty()) {
        EXPECT_GE(position_of(id), position_of(last_id));
        last_id = id;
      }
      if (random() % 2 == 0) client.reset();
    }
  }

  std::vector<std::uint64_t> expected_for(const std::vector<std::string>& channels) {
    std::vector<std::uint64_t> positions;
    std::uint64_t after = 0;
    while (const auto batch = site_.source.since(after, 100000)) {
      for (const Broadcast& broadcast : batch->broadcasts) {
        if (carries(channels, broadcast.channel)) positions.push_back(broadcast.position);
        after = broadcast.position;
      }
    }
    return positions;
  }

  const unsigned seed_;
  Site site_;
  std::mutex line_;  // makes positions follow commit order, as the database's row lock does
  std::atomic<bool> gap_{false};
  std::atomic<bool> published_{false};
  std::atomic<bool> done_{false};
  std::atomic<int> connects_{0};
};

class ReplayThenLive : public testing::TestWithParam<unsigned> {};

TEST_P(ReplayThenLive, EveryClientSeesEachPositionOnceInOrder) {
  World(GetParam()).run();
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReplayThenLive, testing::Range(1u, 21u));

}  // namespace
}  // namespace spillway::sse::test
