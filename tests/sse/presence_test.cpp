// Presence on the wire: what a client reads, byte by byte, from a real server.
#include "sse/presence.hpp"

#include <gtest/gtest.h>

#include "sse/auth_key.hpp"
#include "sse/token.hpp"
#include "tests/sse/keys.hpp"
#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

// Rooms announce; members are who their token says.
struct Rooms {
  explicit Rooms(milliseconds leave_delay = milliseconds(0))
      : site(with_rooms(leave_delay), [] {
          HubOptions hub;
          hub.shards = 2;
          return hub;
        }()) {}

  static ServerOptions with_rooms(milliseconds leave_delay) {
    ServerOptions options;
    options.presence.channels = {"Room:*", "Lobby"};
    options.presence.leave_delay = leave_delay;
    options.access.keys = std::make_shared<KeyRing>(std::vector{verification_key(kSecret)});
    options.access.public_channels = {"*"};
    return options;
  }

  Client enter(const std::string& target, const std::string& member = "",
               const std::string& more_headers = "") {
    std::string headers = "Host: 127.0.0.1\r\n" + more_headers;
    if (!member.empty()) {
      Claims claims;
      claims.subject = member;
      headers += "Authorization: Bearer " + sign_token(claims, signing_key(kSecret)) + "\r\n";
    }
    return Client(site.port(), "GET " + target + " HTTP/1.1\r\n" + headers + "\r\n");
  }

  Site site;
};

std::string presence(const std::string& data, std::uint64_t position) {
  return "event: presence\ndata: " + data + "\nid: e-" + std::to_string(position) + "\n\n";
}

TEST(Presence, TheFirstOneGetsTheStateAndAllGetWhatChanges) {
  Rooms rooms;
  Client ann = rooms.enter("/sse/Room/7", "ann");
  const std::string first =
      opening("Room:7", 0) +
      presence(R"({"channel":"Room:7","subscribers":1,"members":["ann"]})", 0);
  ASSERT_TRUE(ann.read_until("members"));
  ASSERT_TRUE(ann.read_until([&](const std::string& all) { return all.size() >= first.size(); }));
  EXPECT_EQ(ann.received(), first);

  rooms.site.publish({{"Room:7", "said", "1"}});
  ASSERT_TRUE(ann.read_until("said"));
  Client bob = rooms.enter("/sse/Room/7", "bob");
  const std::string joined =
      presence(R"({"channel":"Room:7","subscribers":2,"joined":["bob"],"left":[]})", 1);
  EXPECT_TRUE(ann.read_until(joined)) << ann.received();
  EXPECT_TRUE(bob.read_until(joined)) << bob.received();
  EXPECT_EQ(bob.received(),
            opening("Room:7", 1) +
                presence(R"({"channel":"Room:7","subscribers":1,"members":["ann"]})", 1) + joined)
      << "the state as it was told before, then what is told to all";

  // Somebody without a name, and another tab of bob's.
  Client nameless = rooms.enter("/sse/Room/7");
  EXPECT_TRUE(
      ann.read_until(presence(R"({"channel":"Room:7","subscribers":3,"joined":[],"left":[]})", 1)));
  Client tab = rooms.enter("/sse/Room/7", "bob");
  ASSERT_TRUE(tab.read_until("members"));
  bob.reset();
  tab.close();
  EXPECT_TRUE(ann.read_until(
      presence(R"({"channel":"Room:7","subscribers":2,"joined":[],"left":["bob"]})", 1)));
  nameless.close();
  EXPECT_TRUE(
      ann.read_until(presence(R"({"channel":"Room:7","subscribers":1,"joined":[],"left":[]})", 1)));
}

TEST(Presence, AReconnectIsNeitherALeaveNorAJoin) {
  Rooms rooms(milliseconds(60'000));
  Client ann = rooms.enter("/sse/Room/7", "ann");
  ASSERT_TRUE(ann.read_until("members"));
  Client bob = rooms.enter("/sse/Room/7", "bob");
  ASSERT_TRUE(ann.read_until("joined"));
  bob.close();
  ASSERT_TRUE(rooms.site.wait_for_streams(1));
  Client again = rooms.enter("/sse/Room/7", "bob");
  ASSERT_TRUE(again.read_until(R"("members":["ann","bob"])"));
  // What comes next is of somebody else.
  Client carl = rooms.enter("/sse/Room/7", "carl");
  ASSERT_TRUE(ann.read_until(R"("joined":["carl"],"left":[])"));
  EXPECT_EQ(ann.received().find("\"left\":[\"bob\"]"), std::string::npos);
  EXPECT_EQ(ann.received().find("bob"), ann.received().rfind("bob"));
}

TEST(Presence, OnlyOnChannelsThatAnnounceItAndByTheirName) {
  Rooms rooms;
  Client pattern = rooms.enter("/sse?channel=Room:*", "pat");
  Client other = rooms.enter("/sse/Other/1", "oda");
  Client both = rooms.enter("/sse?channel=Lobby&channel=Room:1&channel=Room:*", "ann");
  ASSERT_TRUE(both.read_until(R"({"channel":"Lobby","subscribers":1,"members":["ann"]})"));
  ASSERT_TRUE(both.read_until(R"({"channel":"Room:1","subscribers":1,"members":["ann"]})"));
  EXPECT_EQ(both.received().find("Room:*\",\"subscribers"), std::string::npos);
  rooms.site.publish({{"Room:1", "said", "end"}, {"Other:1", "said", "end"}});
  ASSERT_TRUE(pattern.read_until("end"));
  ASSERT_TRUE(other.read_until("end"));
  ASSERT_TRUE(both.read_until("end"));
  EXPECT_EQ(pattern.received().find("presence"), std::string::npos);
  EXPECT_EQ(other.received().find("presence"), std::string::npos);
}

TEST(Presence, IsInNobodysWayWhoResumes) {
  Rooms rooms;
  Client ann = rooms.enter("/sse/Room/7", "ann");
  ASSERT_TRUE(ann.read_until("members"));
  rooms.site.publish({{"Room:7", "said", "1"}});
  Client bob = rooms.enter("/sse/Room/7", "bob");
  ASSERT_TRUE(ann.read_until("joined"));
  ASSERT_TRUE(bob.read_until("joined"));
  rooms.site.publish({{"Room:7", "said", "2"}});
  ASSERT_TRUE(bob.read_until("data: 2\nid: e-2\n\n"));
  // From memory: what is durable comes again, presence is what it is now.
  Client late = rooms.enter("/sse/Room/7", "bob", "Last-Event-ID: e-0\r\n");
  ASSERT_TRUE(late.read_until("data: 2\nid: e-2\n\n"));
  EXPECT_EQ(late.received(),
            opening("Room:7", 0) +
                presence(R"({"channel":"Room:7","subscribers":2,"members":["ann","bob"]})", 0) +
                "event: said\ndata: 1\nid: e-1\n\nevent: said\ndata: 2\nid: e-2\n\n");
  // From the database: the state comes once the stream is live, with the id where it stands.
  rooms.site.source.set_mode(FakeReplaySource::Mode::hold);
  Client later = rooms.enter("/sse/Room/7?last_event_id=earliest", "bob");
  ASSERT_TRUE(eventually([&] { return rooms.site.source.held() == 1; }));
  rooms.site.source.release();
  ASSERT_TRUE(later.read_until("members"));
  EXPECT_EQ(later.received(),
            opening("Room:7", 0) +
                "event: said\ndata: 1\nid: e-1\n\nevent: said\ndata: 2\nid: e-2\n\n" +
                presence(R"({"channel":"Room:7","subscribers":2,"members":["ann","bob"]})", 2));
}

TEST(Presence, AStormIsAFewFramesForEachSubscriber) {
  Rooms rooms(milliseconds(60'000));
  Client ann = rooms.enter("/sse/Room/7", "ann");
  ASSERT_TRUE(ann.read_until("members"));
  const auto began = std::chrono::steady_clock::now();
  std::vector<Client> crowd;
  for (int i = 0; i < 300; ++i)
    crowd.push_back(rooms.enter("/sse/Room/7", "m" + std::to_string(1000 + i)));
  ASSERT_TRUE(ann.read_until(R"("subscribers":301)")) << ann.received();
  std::size_t frames = 0;
  for (std::size_t at = 0; (at = ann.received().find("event: presence", at)) != std::string::npos;
       ++at)
    ++frames;
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_LE(frames, 3 + static_cast<std::size_t>(took / milliseconds(250)));
}

TEST(Presence, ANameThatCannotBeToldIsAnonymous) {
  EXPECT_TRUE(is_member_name("größe \" 7"));
  for (const std::string& name : {std::string(), std::string(256, 'x'), std::string("a\nb"),
                                  std::string("a\0b", 3), std::string("\xFF")})
    EXPECT_FALSE(is_member_name(name));
}

}  // namespace
}  // namespace spillway::sse::test
