// What belongs to a connection: where it was made, whose it is, and how many a client may have.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "spillway-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

ServerOptions listening_on(const std::string& path, unsigned mode = 0660) {
  ServerOptions options;
  options.listen.front().path = path;
  options.listen.front().mode = mode;
  return options;
}

TEST(UnixSocket, CarriesStreamsAndLeavesNoFile) {
  const Folder folder;
  const std::string path = folder.file("s.sock");
  {
    Site site(listening_on(path, 0600));
    EXPECT_EQ(site.port(), 0);
    EXPECT_EQ(site.server.endpoints().front().text(), "unix:" + path);
    struct stat there {};
    ASSERT_EQ(::stat(path.c_str(), &there), 0);
    EXPECT_EQ(there.st_mode & 0777u, 0600u);
    Client client = Client::to_unix(path);
    client.send(get("/sse/A/1"));
    ASSERT_TRUE(client.read_until("connected"));
    site.publish({{"A:1", "", "x"}});
    EXPECT_TRUE(client.read_until("data: x\nid: e-1\n\n"));
    client.close();
    EXPECT_TRUE(site.wait_for_streams(0));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(UnixSocket, OneThatADeadProcessLeftIsReplaced) {
  const Folder folder;
  const std::string path = folder.file("s.sock");
  {
    const int left = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(left, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::listen(left, 1);
    ::close(left);
  }
  Site site(listening_on(path));
  Client client = Client::to_unix(path);
  client.send(get("/sse/A/1"));
  EXPECT_TRUE(client.read_until("connected"));
}

std::string refusal(const std::string& path) {
  try {
    const Site site(listening_on(path));
  } catch (const std::system_error& error) {
    return error.what();
  }
  return {};
}

TEST(UnixSocket, ALiveOneAFileAndALongPathAreErrorsThatSaySo) {
  const Folder folder;
  const std::string path = folder.file("s.sock");
  Site site(listening_on(path));
  EXPECT_NE(refusal(path).find("another process listens on unix:" + path), std::string::npos);
  Client client = Client::to_unix(path);
  client.send(get("/sse/A/1"));
  EXPECT_TRUE(client.read_until("connected")) << "the first one goes on";

  const std::string file = folder.file("notes");
  std::ofstream(file) << "mine\n";
  EXPECT_NE(refusal(file).find("is not a socket; remove it"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(file));
  const std::string link = folder.file("link");
  std::filesystem::create_symlink(path, link);
  EXPECT_NE(refusal(link).find("is not a socket"), std::string::npos);

  EXPECT_NE(refusal(folder.file(std::string(200, 'x'))).find("write a shorter one"),
            std::string::npos);
  EXPECT_NE(refusal("/no/such/folder/s.sock").find("the folder of"), std::string::npos);
}

TEST(UnixSocket, WhatAnotherPutInItsPlaceStays) {
  const Folder folder;
  const std::string path = folder.file("s.sock");
  {
    Site site(listening_on(path));
    std::filesystem::remove(path);
    std::ofstream(path) << "mine\n";
  }
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
}

TEST(Listening, SeveralEndpointsServeTheSameStreams) {
  const Folder folder;
  ServerOptions options = listening_on(folder.file("s.sock"));
  options.listen.push_back({});
  options.listen.push_back({"::1", 0, {}, 0});
  Site site(options);
  const auto endpoints = site.server.endpoints();
  ASSERT_EQ(endpoints.size(), 3u);
  EXPECT_EQ(site.port(), endpoints[1].port) << "the first that is TCP";
  EXPECT_NE(endpoints[1].port, endpoints[2].port);
  Client one = Client::to_unix(endpoints[0].path);
  one.send(get("/sse/A/1"));
  Client two = site.open("/sse/A/1");
  ASSERT_TRUE(one.read_until("connected"));
  ASSERT_TRUE(two.read_until("connected"));
  site.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(one.read_until("data: x"));
  EXPECT_TRUE(two.read_until("data: x"));
}

TEST(Listening, OneEndpointThatCannotBeHadLeavesNone) {
  const Folder folder;
  ServerOptions options = listening_on(folder.file("s.sock"));
  options.listen.push_back({"no.such.host.invalid", 0, {}, 0});
  EXPECT_THROW(Site{options}, std::system_error);
  EXPECT_FALSE(std::filesystem::exists(folder.file("s.sock")));
}

// --- the limit per address ---

class PerAddress : public testing::Test {
 protected:
  static ServerOptions limited(bool count_local) {
    ServerOptions options;
    options.max_connections_per_address = 2;
    options.count_local_addresses = count_local;
    return options;
  }
  static bool is_open(Client& client) {
    return client.read_until([](const std::string& all) {
      return all.find("\n\n") != std::string::npos || all.find("retry: ") != std::string::npos;
    }) && client.read_until("connected", milliseconds(2000));
  }
  // It is told to come back, and then closed.
  static bool is_sent_away(Client& client) {
    return client.read_to_end() &&
           client.received().starts_with(
               "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n") &&
           body_of(client.received()).starts_with("retry: ") &&
           client.received().find("connected") == std::string::npos;
  }
};

TEST_F(PerAddress, OneThatHasItsShareIsToldToComeBackAndOthersAreServed) {
  Site site(limited(true), {}, false);
  site.server.route("GET", "/hello", Right::none, [](HttpRequest, Respond respond) {
    respond({200, "text/plain", "hello", {}});
  });
  site.hub.start(site.line);
  site.server.start();
  const auto stream_from = [&](const char* address) {
    Client client = Client::from(address, site.port());
    client.send(get("/sse/A/1"));
    return client;
  };
  Client one = stream_from("127.0.0.2");
  Client two = stream_from("127.0.0.2");
  ASSERT_TRUE(is_open(one));
  ASSERT_TRUE(is_open(two));
  Client three = stream_from("127.0.0.2");
  EXPECT_TRUE(is_sent_away(three));
  Client other = stream_from("127.0.0.3");
  EXPECT_TRUE(is_open(other));
  EXPECT_EQ(site.server.counters().refusals[static_cast<std::size_t>(Refusal::address)], 1u);

  Client asking = Client::from("127.0.0.2", site.port());
  asking.send(get("/hello"));
  ASSERT_TRUE(asking.read_to_end()) << "one answer, from the reserve";
  EXPECT_EQ(body_of(asking.received()), "hello");

  one.close();
  ASSERT_TRUE(eventually([&] {
    Client again = stream_from("127.0.0.2");
    return is_open(again);
  }));
  site.publish({{"A:1", "", "x"}});
  EXPECT_TRUE(two.read_until("data: x")) << "nobody old made way";
}

TEST_F(PerAddress, SilentConnectionsOfOneAddressDoNotTakeEverybodysPlaces) {
  Site site(limited(true));
  std::vector<Client> silent;
  // Two and the reserve of sixteen are let in, the rest are closed at once.
  for (int i = 0; i < 40; ++i) silent.push_back(Client::from("127.0.0.2", site.port()));
  std::size_t closed = 0;
  for (Client& client : silent) closed += client.read_to_end(milliseconds(100)) ? 1 : 0;
  EXPECT_EQ(closed, 22u);
}

TEST_F(PerAddress, ThisMachineIsNotCountedUnlessItIsAskedFor) {
  Site site(limited(false));
  std::vector<Client> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(site.open("/sse/A/1"));
    EXPECT_TRUE(is_open(clients.back()));
  }
}

TEST_F(PerAddress, ATrustedProxysClientsAreCountedEachByItself) {
  ServerOptions options = limited(false);
  options.proxies.add("127.0.0.1");
  Site site(options);
  const auto stream_for = [&](const std::string& forwarded) {
    return site.open("/sse/A/1", "X-Forwarded-For: " + forwarded + "\r\n");
  };
  std::vector<Client> clients;
  for (const char* address : {"203.0.113.1", "8.8.8.8, 203.0.113.1", "203.0.113.2",
                              "2001:db8:0:1::1", "2001:db8:0:1::2"}) {
    clients.push_back(stream_for(address));
    EXPECT_TRUE(is_open(clients.back())) << address;
  }
  Client third = stream_for("203.0.113.1");
  EXPECT_TRUE(is_sent_away(third));
  Client same_network = stream_for("2001:db8:0:1::3");
  EXPECT_TRUE(is_sent_away(same_network));
  // The proxy's own connections are not counted, whatever it says.
  for (const char* address : {"garbage", "garbage", "garbage", "127.0.0.1", "127.0.0.1"}) {
    clients.push_back(stream_for(address));
    EXPECT_TRUE(is_open(clients.back())) << address;
  }
}

TEST_F(PerAddress, WhoIsNotTrustedIsCountedByHisOwnAddressWhateverHeSends) {
  Site site(limited(true));
  const auto stream = [&](const std::string& forwarded) {
    return site.open("/sse/A/1", "X-Forwarded-For: " + forwarded + "\r\n");
  };
  Client one = stream("203.0.113.1");
  Client two = stream("203.0.113.2");
  ASSERT_TRUE(is_open(one));
  ASSERT_TRUE(is_open(two));
  Client three = stream("203.0.113.3");
  EXPECT_TRUE(is_sent_away(three));
}

TEST_F(PerAddress, AUnixSocketsClientsAreCountedTogetherWhenAskedFor) {
  const Folder folder;
  ServerOptions options = limited(true);
  options.listen.front().path = folder.file("s.sock");
  Site site(options);
  const auto stream = [&] {
    Client client = Client::to_unix(folder.file("s.sock"));
    client.send(get("/sse/A/1"));
    return client;
  };
  Client one = stream();
  Client two = stream();
  ASSERT_TRUE(is_open(one));
  ASSERT_TRUE(is_open(two));
  Client three = stream();
  EXPECT_TRUE(is_sent_away(three));
}

}  // namespace
}  // namespace spillway::sse::test
