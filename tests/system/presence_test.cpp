// Who listens where, over real processes on one database.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

// Processes whose rooms announce, and tokens for who comes there.
class Presence : public testing::Test {
 protected:
  Presence() {
    std::filesystem::create_directories(folder_);
    std::ofstream(key_) << std::string(32, 'k');
  }

  std::vector<std::string> announcing(const std::string& leave_delay = "300ms") const {
    return {"--roles",   "sse",        "--presence", "Room:*",   "--presence-leave-delay",
            leave_delay, "--auth-key", key_,         "--public", "*"};
  }

  // The target of the room, with a token of `member`; empty: without one.
  std::string room(const std::string& member = "") const {
    if (member.empty()) return "/sse/Room/7";
    const Finished token = run(
        {spillway_binary(), "token", "--auth-key", key_, "--subject", member, "--subscribe", "*"});
    EXPECT_EQ(token.exit_code, 0) << token.errors;
    return "/sse/Room/7?access_token=" + token.output.substr(0, token.output.find('\n'));
  }

  const std::filesystem::path folder_ = scratch_folder() / "presence";
  const std::string key_ = (folder_ / "key").string();
  Database database;
};

json channels_of(Worker& worker, const std::string& query = "") {
  const HttpAnswer answer = http(worker.port(), "GET", "/api/channels" + query);
  EXPECT_EQ(answer.status, 200) << answer.body;
  return json::parse(answer.body);
}

// What a client knows by its presence frames alone.
struct Known {
  Known(int port, const std::string& target) : client(port, target) {}

  // Until these are there, and so many in all; otherwise what it knows.
  std::string hears(int count, const std::set<std::string>& names) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while ((subscribers != count || members != names) && std::chrono::steady_clock::now() < end) {
      const auto frame = client.next(1s);
      if (!frame && client.ended()) return "the stream has ended";
      if (!frame || frame->event != "presence") continue;
      const json data = json::parse(frame->data);
      told += frame->data + " ";
      subscribers = data.at("subscribers").get<int>();
      if (data.contains("members")) members = data["members"].get<std::set<std::string>>();
      for (const auto& name : data.value("joined", json::array()))
        members.insert(name.get<std::string>());
      for (const auto& name : data.value("left", json::array()))
        members.erase(name.get<std::string>());
    }
    return subscribers == count && members == names ? "" : told;
  }

  SseClient client;
  int subscribers = -1;
  std::set<std::string> members;
  std::string told;
};

TEST_F(Presence, of_two_processes_is_one_and_a_killed_one_takes_its_members_along) {
  auto one = std::make_unique<Worker>(database.url(), announcing());
  Worker two(database.url(), announcing());
  one->wait_until_ready();
  two.wait_until_ready();
  Known ann(one->port(), room("ann"));
  ASSERT_EQ(ann.hears(1, {"ann"}), "");
  Known bob(two.port(), room("bob"));
  EXPECT_EQ(ann.hears(2, {"ann", "bob"}), "");
  EXPECT_EQ(bob.hears(2, {"ann", "bob"}), "");
  {
    const SseClient nameless(one->port(), room());
    const SseClient tab(one->port(), room("bob"));  // on the other process: still one member
    EXPECT_EQ(bob.hears(3, {"ann", "bob"}), "");
    EXPECT_EQ(ann.hears(3, {"ann", "bob"}), "");
  }
  EXPECT_EQ(bob.hears(2, {"ann", "bob"}), "");
  EXPECT_EQ(ann.hears(2, {"ann", "bob"}), "");
  EXPECT_EQ(bob.told.find(R"("left":["bob"])"), std::string::npos);

  one->kill();
  EXPECT_EQ(bob.hears(1, {"bob"}), "");
  EXPECT_NE(bob.told.find(R"("joined":[],"left":["ann"])"), std::string::npos);
  EXPECT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM spillway.stream_servers") == 1;
  })) << "upkeep";
  // A new one in its place finds who is there.
  one = std::make_unique<Worker>(database.url(), announcing());
  one->wait_until_ready();
  Known carl(one->port(), room("carl"));
  EXPECT_EQ(carl.hears(2, {"bob", "carl"}), "");
  EXPECT_EQ(bob.hears(2, {"bob", "carl"}), "");
  EXPECT_EQ(one->stop(), 0);
  EXPECT_EQ(bob.hears(1, {"bob"}), "");
  EXPECT_EQ(two.stop(), 0);
}

TEST_F(Presence, survives_a_crash_of_the_database_which_empties_the_table) {
  // Nobody leaves for as long as this takes: who is told of a leave was told wrongly.
  Worker one(database.url(), announcing("1m"));
  Worker two(database.url(), announcing("1m"));
  one.wait_until_ready();
  two.wait_until_ready();
  Known ann(one.port(), room("ann"));
  ASSERT_EQ(ann.hears(1, {"ann"}), "");
  Known bob(two.port(), room("bob"));
  ASSERT_EQ(ann.hears(2, {"ann", "bob"}), "");
  ASSERT_EQ(bob.hears(2, {"ann", "bob"}), "");
  server().restart("immediate");
  const SseClient carl(two.port(), room("carl"));
  EXPECT_EQ(ann.hears(3, {"ann", "bob", "carl"}), "");
  EXPECT_EQ(bob.hears(3, {"ann", "bob", "carl"}), "");
  EXPECT_TRUE(eventually([&] {
    return database.number("SELECT coalesce(sum(subscribers), 0) FROM spillway.channels") == 3;
  }));
  EXPECT_EQ(one.stop(), 0);
  EXPECT_EQ(two.stop(), 0);
}

TEST_F(Presence, channels_are_counted_over_all_processes) {
  Worker one(database.url(), {"--roles", "sse"});
  Worker two(database.url(), {"--max-subscribers-per-channel", "2"});
  one.wait_until_ready();
  two.wait_until_ready();
  SseClient a(one.port(), "/sse?channel=Room:1&channel=Room:2");
  SseClient b(two.port(), "/sse/Room/1");
  SseClient c(two.port(), "/sse?channel=Room:*");
  for (SseClient* client : {&a, &b, &c}) ASSERT_TRUE(client->next());
  EXPECT_EQ(channels_of(one, "?prefix=Room:2"), json::parse(R"({"channels":[
      {"channel":"Room:2","subscribers":1,"local":1}],"total":1,"subscribers":1})"))
      << "its own are there at once";
  const json all = json::parse(R"({"channels":[
      {"channel":"Room:1","subscribers":2,"local":1},
      {"channel":"Room:*","subscribers":1,"local":1,"pattern":true},
      {"channel":"Room:2","subscribers":1,"local":0}],"total":3,"subscribers":4})");
  EXPECT_TRUE(eventually([&] { return channels_of(two) == all; })) << channels_of(two);
  const HttpAnswer cut = http(two.port(), "GET", "/api/channels?limit=1");
  EXPECT_NE(cut.head.find("X-Total-Count: 3\r\n"), std::string::npos) << cut.head;
  EXPECT_EQ(json::parse(cut.body)["channels"].size(), 1u);
  EXPECT_EQ(http(two.port(), "GET", "/api/channels?limit=0").status, 400);

  // The limit is each process's own.
  SseClient d(two.port(), "/sse/Room/1");
  ASSERT_TRUE(d.next());
  SseClient e(two.port(), "/sse/Room/1");
  EXPECT_FALSE(e.next());
  EXPECT_TRUE(e.ended());
  EXPECT_NE(e.head().find("200 OK"), std::string::npos);
  one.kill();
  EXPECT_TRUE(eventually([&] { return channels_of(two)["subscribers"] == 3; }));
  EXPECT_EQ(two.stop(), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.channels"), 0);
}

TEST_F(Presence, wrong_options_are_explained) {
  for (const auto& [option, why] :
       {std::pair{"--presence=*", "is a pattern without a prefix; write one that ends in \":*\""},
        {"--presence-leave-delay=soon", "write a duration"},
        {"--max-channels-per-connection=0", "max-channels-per-connection"}}) {
    const Finished finished =
        run({spillway_binary(), "run", option, "--database-url", "postgresql://nowhere.invalid/x"});
    EXPECT_EQ(finished.exit_code, 2) << option << finished.errors;
    EXPECT_NE(finished.errors.find(why), std::string::npos) << finished.errors;
  }
}

}  // namespace
}  // namespace spillway::test
