#include "sse/presence_tracker.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

namespace spillway::sse {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

struct Room {
  explicit Room(PresenceTracker::Options options = {}) : tracker(options) {}

  void at(int ms) { now = PresenceTracker::TimePoint(milliseconds(ms)); }
  void come(const std::string& member) { tracker.local("Room:7", member, 1, now); }
  void go(const std::string& member) { tracker.local("Room:7", member, -1, now); }
  void elsewhere(const std::string& member, std::uint32_t connections) {
    tracker.remote("Room:7", {{member, connections}}, now);
  }
  std::string frame() {
    const auto news = tracker.due(now);
    if (news.empty()) return "";
    EXPECT_EQ(news.size(), 1u);
    if (!news.back().state) return "given up";
    state = *news.back().state;
    return news.back().frame;
  }
  int next() {
    const auto next = tracker.next();
    return next ? static_cast<int>((*next - PresenceTracker::TimePoint{}) / milliseconds(1)) : -1;
  }

  PresenceTracker tracker;
  PresenceTracker::TimePoint now{};
  std::string state;
};

TEST(PresenceTracker, TheFirstFrameIsTheStateAndThenWhatChanges) {
  Room room;
  room.come("ann");
  EXPECT_EQ(room.next(), 250);
  room.at(249);
  EXPECT_EQ(room.frame(), "");
  room.at(250);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":1,"members":["ann"]})");
  EXPECT_EQ(room.next(), -1);
  room.at(1000);
  room.come("carl");
  room.at(1200);
  room.come("bob");
  EXPECT_EQ(room.next(), 1250);
  room.at(1250);
  EXPECT_EQ(room.frame(),
            R"({"channel":"Room:7","subscribers":3,"joined":["carl","bob"],"left":[]})");
  EXPECT_EQ(room.state, R"({"channel":"Room:7","subscribers":3,"members":["ann","bob","carl"]})");
  room.at(2000);
  room.go("bob");
  EXPECT_EQ(room.next(), 7000);
  room.at(6900);
  room.come("dora");
  room.at(7000);
  EXPECT_EQ(room.frame(),
            R"({"channel":"Room:7","subscribers":3,"joined":["dora"],"left":["bob"]})");
}

TEST(PresenceTracker, WhoComesBackInTimeNeverLeft) {
  Room room;
  room.come("ann");
  room.come("bob");
  room.at(250);
  room.frame();
  room.go("bob");
  room.at(5249);
  EXPECT_EQ(room.frame(), "");
  room.come("bob");
  EXPECT_EQ(room.next(), -1);
  room.at(5300);
  room.go("bob");
  EXPECT_EQ(room.next(), 10300) << "the delay begins anew";
  room.at(10300);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":1,"joined":[],"left":["bob"]})");
}

TEST(PresenceTracker, WhoGoesBeforeTheirJoinWasToldNeverCame) {
  Room room;
  room.come("ann");
  room.at(250);
  room.frame();
  room.come("bob");
  room.at(300);
  room.go("bob");
  EXPECT_EQ(room.next(), -1);
  EXPECT_EQ(room.frame(), "");
}

TEST(PresenceTracker, SeveralConnectionsAreOneMemberWhereverTheyAre) {
  Room room;
  room.come("ann");
  room.come("ann");
  room.elsewhere("ann", 2);
  room.at(250);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":1,"members":["ann"]})");
  room.come("bob");
  room.go("ann");
  room.go("ann");
  room.at(500);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":2,"joined":["bob"],"left":[]})");
  EXPECT_EQ(room.next(), -1);
  room.elsewhere("ann", 0);
  EXPECT_EQ(room.next(), 5500);
}

TEST(PresenceTracker, AnonymousOnesOnlyMoveTheNumberAndItFallsLate) {
  Room room;
  room.come("ann");
  room.come("");
  room.come("");
  room.elsewhere("", 3);
  room.at(250);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":6,"members":["ann"]})");
  room.go("");
  room.at(2250);
  room.elsewhere("", 0);
  EXPECT_EQ(room.next(), 5250);
  room.at(5250);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":5,"joined":[],"left":[]})")
      << "so many were there within the delay";
  room.at(10250);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":2,"joined":[],"left":[]})");
  EXPECT_EQ(room.next(), -1);
  room.go("");
  room.at(12000);
  room.come("");
  EXPECT_EQ(room.next(), -1) << "a reconnect is no change";
  room.come("");
  room.at(12250);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":3,"joined":[],"left":[]})");
}

TEST(PresenceTracker, FramesOfAChannelKeepTheirDistance) {
  Room room({.leave_delay = milliseconds(10)});
  room.come("ann");
  room.come("bob");
  room.at(250);
  room.frame();
  room.go("bob");
  EXPECT_EQ(room.next(), 500);
  room.at(260);
  EXPECT_EQ(room.frame(), "");
  room.at(500);
  EXPECT_NE(room.frame(), "");
}

TEST(PresenceTracker, ListsAreCutAndTheRestIsANumber) {
  Room room({.names = 2});
  for (const char* member : {"a", "b", "c"}) room.come(member);
  room.at(250);
  EXPECT_EQ(room.frame(),
            R"({"channel":"Room:7","subscribers":3,"members":["a","b"],"members_more":1})");
  for (const char* member : {"f", "e", "d"}) room.come(member);
  room.at(500);
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":6,"joined":["d","e"],)"
                          R"("joined_more":1,"left":[]})");
}

TEST(PresenceTracker, ListsAreCutByTheirBytesToo) {
  Room room({.names = 1000});
  for (char c = 'a'; c <= 'z'; ++c) room.come(std::string(255, c));
  room.at(250);
  const auto frame = json::parse(room.frame());
  EXPECT_EQ(frame["members"].size(), 7u);
  EXPECT_EQ(frame["members_more"], 19);
  EXPECT_EQ(frame["subscribers"], 26);
  EXPECT_LT(room.state.size(), 2200u);
}

TEST(PresenceTracker, WhatIsInNamesCannotBreakTheFrame) {
  Room room;
  room.come("a\"b\\\xF0\x9F\x98\x80");
  room.at(250);
  const auto frame = json::parse(room.frame());
  EXPECT_EQ(frame["members"][0], "a\"b\\\xF0\x9F\x98\x80");
}

TEST(PresenceTracker, AFreshChannelWaitsForOthersButNotForEver) {
  Room room({.others = true});
  room.come("ann");
  EXPECT_EQ(room.next(), 1000);
  room.at(400);
  room.elsewhere("bob", 1);
  EXPECT_EQ(room.frame(), "");
  room.tracker.remote_known("Room:7");
  EXPECT_EQ(room.frame(), R"({"channel":"Room:7","subscribers":2,"members":["ann","bob"]})");
  Room alone({.others = true});
  alone.come("ann");
  alone.at(1000);
  EXPECT_EQ(alone.frame(), R"({"channel":"Room:7","subscribers":1,"members":["ann"]})");
}

TEST(PresenceTracker, AChannelWithoutSubscribersHereIsGivenUp) {
  Room room;
  room.come("ann");
  room.at(250);
  room.frame();
  const auto before = room.tracker.generation();
  ASSERT_EQ(room.tracker.followed().size(), 1u);
  const auto since = room.tracker.followed()[0].since;
  room.go("ann");
  EXPECT_NE(room.tracker.generation(), before);
  EXPECT_TRUE(room.tracker.followed().empty());
  EXPECT_EQ(room.frame(), "given up");
  room.elsewhere("bob", 1);  // came too late
  EXPECT_EQ(room.next(), -1);
  room.come("ann");
  EXPECT_NE(room.tracker.followed()[0].since, since);
}

// --- random interleavings against a plain model ---

// Somebody who listens: takes the state it is given, then adds and takes away.
struct Listener {
  std::set<std::string> members;
  int subscribers = 0;

  void hear(const std::string& text) {
    const json data = json::parse(text);
    subscribers = data.at("subscribers").get<int>();
    if (data.contains("members")) members = data["members"].get<std::set<std::string>>();
    for (const auto& name : data.value("joined", json::array()))
      EXPECT_TRUE(members.insert(name.get<std::string>()).second) << "joined twice: " << text;
    for (const auto& name : data.value("left", json::array()))
      EXPECT_EQ(members.erase(name.get<std::string>()), 1u) << "left without a join: " << text;
  }
};

TEST(PresenceTracker, WhatIsToldAddsUpToWhoIsThereWhateverHappens) {
  const char* given = std::getenv("SPILLWAY_TEST_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                                         : std::random_device{}();
  SCOPED_TRACE("SPILLWAY_TEST_SEED=" + std::to_string(seed));
  for (unsigned round = 0; round < 300; ++round) {
    std::mt19937 random(seed + round);
    const auto delay = milliseconds(random() % 3 == 0 ? 400 : 5000);
    PresenceTracker tracker({.leave_delay = delay, .others = random() % 2 == 0, .names = 1000});
    const std::vector<std::string> channels{"Room:1", "Room:2"};
    std::map<std::string, std::map<std::string, int>> here, there;
    std::map<std::string, Listener> first;  // there from the beginning
    std::map<std::string, std::vector<Listener>> late;
    std::map<std::string, std::string> states;
    std::map<std::string, PresenceTracker::TimePoint> last_frame;
    // When a member was last not there, or there, at all: to know what must not have been told.
    std::map<std::string, std::map<std::string, PresenceTracker::TimePoint>> gone_since;
    PresenceTracker::TimePoint now{};
    const auto present = [&](const std::string& channel, const std::string& member) {
      return here[channel][member] + there[channel][member] > 0;
    };
    const auto speak = [&] {
      for (const PresenceNews& news : tracker.due(now)) {
        if (!news.state) {
          states.erase(news.channel);
          continue;
        }
        ASSERT_FALSE(news.frame.empty());
        if (last_frame.contains(news.channel) && states.contains(news.channel)) {
          EXPECT_GE(now - last_frame[news.channel], milliseconds(250));
        }
        last_frame[news.channel] = now;
        const json data = json::parse(news.frame);
        for (const auto& name : data.value("joined", json::array()))
          EXPECT_TRUE(present(news.channel, name)) << "told of a join that was over";
        for (const auto& name : data.value("left", json::array())) {
          EXPECT_FALSE(present(news.channel, name)) << "told that somebody left who is there";
          EXPECT_GE(now - gone_since[news.channel][name], delay) << "told too early";
        }
        states[news.channel] = *news.state;
        first[news.channel].hear(news.frame);
        for (Listener& listener : late[news.channel]) listener.hear(news.frame);
      }
    };
    // One listener on each channel is there all the time, so that it is followed.
    for (const auto& channel : channels) {
      tracker.local(channel, "watcher", 1, now);
      here[channel]["watcher"] = 1;
    }
    const auto change = [&](const std::string& channel, const std::string& member, auto act) {
      const bool before = present(channel, member);
      act();
      if (before && !present(channel, member)) gone_since[channel][member] = now;
    };
    for (int step = 0; step < 200; ++step) {
      now += milliseconds(random() % (random() % 10 == 0 ? 7000 : 150));
      const std::string channel = channels[random() % 2];
      const std::string member = random() % 4 == 0 ? "" : std::string(1, char('a' + random() % 6));
      switch (random() % 5) {
        case 0:
        case 1:
          change(channel, member, [&] { ++here[channel][member]; });
          tracker.local(channel, member, 1, now);
          break;
        case 2:
          if (here[channel][member] == 0) break;
          change(channel, member, [&] { --here[channel][member]; });
          tracker.local(channel, member, -1, now);
          break;
        case 3: {
          const auto connections = static_cast<std::uint32_t>(random() % 3);
          change(channel, member, [&] { there[channel][member] = static_cast<int>(connections); });
          tracker.remote(channel, {{member, connections}}, now);
          break;
        }
        case 4:
          tracker.remote_known(channel);
          // Somebody comes who is not counted here: told the state, then what changes.
          if (states.contains(channel)) {
            late[channel].emplace_back().hear(states[channel]);
          }
          break;
      }
      if (random() % 3 != 0) speak();
      if (testing::Test::HasFailure()) FAIL() << "round " << round;
    }
    for (int i = 0; i < 100 && tracker.next(); ++i) {
      now = std::max(now, *tracker.next());
      speak();
    }
    ASSERT_FALSE(tracker.next());
    for (const auto& channel : channels) {
      std::set<std::string> members;
      int subscribers = 0;
      for (const auto& [member, count] : here[channel]) {
        if (member.empty())
          subscribers += count + there[channel][""];
        else if (present(channel, member))
          members.insert(member);
      }
      for (const auto& [member, count] : there[channel]) {
        if (member.empty() && !here[channel].contains("")) subscribers += count;
        if (!member.empty() && count > 0) members.insert(member);
      }
      subscribers += static_cast<int>(members.size());
      EXPECT_EQ(first[channel].members, members);
      EXPECT_EQ(first[channel].subscribers, subscribers);
      for (const Listener& listener : late[channel]) {
        EXPECT_EQ(listener.members, members);
      }
      EXPECT_EQ(json::parse(states[channel])["members"].get<std::set<std::string>>(), members);
    }
    if (testing::Test::HasFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace spillway::sse
