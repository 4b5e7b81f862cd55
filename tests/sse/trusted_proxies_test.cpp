// Whose address counts: networks, X-Forwarded-For, and the counts of connections.
#include "sse/trusted_proxies.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "sse/connection_slot.hpp"

namespace spillway::sse {
namespace {

Peer peer(const std::string& address) {
  return Peer(boost::asio::ip::make_address(address));
}

TEST(Network, ContainsWhatItsPrefixSays) {
  const auto contains = [](const char* network, const char* address) {
    return Network(network).contains(boost::asio::ip::make_address(address));
  };
  EXPECT_TRUE(contains("10.1.0.0/16", "10.1.255.255"));
  EXPECT_FALSE(contains("10.1.0.0/16", "10.2.0.0"));
  EXPECT_TRUE(contains("10.1.2.3", "10.1.2.3"));
  EXPECT_FALSE(contains("10.1.2.3", "10.1.2.4"));
  EXPECT_TRUE(contains("0.0.0.0/0", "203.0.113.9"));
  EXPECT_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(contains("fd00:1::/31", "fd00:0:ffff::"));
  EXPECT_FALSE(contains("fd00::/32", "fd00:1::"));
  for (const char* wrong : {"", "x", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/8x", "fe80::1%lo/64"})
    EXPECT_THROW(Network{wrong}, std::invalid_argument) << wrong;
}

TEST(Peer, AnIPv4AddressIsTheSameOneInIPv6sDisguise) {
  EXPECT_EQ(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
  EXPECT_EQ(peer("::ffff:192.0.2.1").text(), "192.0.2.1");
  EXPECT_EQ(Peer().text(), "unix");
  EXPECT_NE(Peer(), peer("127.0.0.1"));
}

class TrustedProxiesTest : public testing::Test {
 protected:
  TrustedProxiesTest() {
    proxies_.add("10.0.0.0/8");
    proxies_.add("2001:db8:aaaa::/48");
  }
  std::string client(const Peer& from, std::string_view forwarded_for) {
    return proxies_.client(from, forwarded_for).text();
  }
  TrustedProxies proxies_;
};

TEST_F(TrustedProxiesTest, WhoIsNotTrustedSpeaksForHimself) {
  EXPECT_EQ(client(peer("192.0.2.1"), "203.0.113.1"), "192.0.2.1");
  EXPECT_EQ(client(Peer(), "203.0.113.1"), "unix");
  EXPECT_EQ(TrustedProxies().client(peer("127.0.0.1"), "203.0.113.1"), peer("127.0.0.1"));
}

TEST_F(TrustedProxiesTest, TheLastAddressThatIsNoProxyIsTheClient) {
  const Peer proxy = peer("10.0.0.1");
  EXPECT_EQ(client(proxy, "203.0.113.1"), "203.0.113.1");
  EXPECT_EQ(client(proxy, "203.0.113.1, 10.0.0.7"), "203.0.113.1");
  EXPECT_EQ(client(proxy, "8.8.8.8, 203.0.113.1,10.0.0.7 ,\t2001:db8:aaaa::9"), "203.0.113.1");
  EXPECT_EQ(client(proxy, "garbage, 203.0.113.1"), "203.0.113.1") << "what a client claims";
  EXPECT_EQ(client(proxy, "203.0.113.1:4711"), "203.0.113.1");
  EXPECT_EQ(client(proxy, "[2001:db8::1]:4711"), "2001:db8::1");
  EXPECT_EQ(client(proxy, "2001:db8::1"), "2001:db8::1");
  EXPECT_EQ(client(proxy, "10.0.0.9, 10.0.0.7"), "10.0.0.9") << "a client inside";
}

TEST_F(TrustedProxiesTest, WhatIsNoAddressLeavesThePeer) {
  for (const char* wrong : {"", " ", "garbage", "203.0.113.1,", ",", "unknown, 10.0.0.7", "1.2.3",
                            "203.0.113.1 203.0.113.2", "[", "[]", "fe80::1%eth0", "unix",
                            "\"203.0.113.1\"", "203.0.113.1, _hidden"})
    EXPECT_EQ(client(peer("10.0.0.1"), wrong), "10.0.0.1") << wrong;
}

TEST_F(TrustedProxiesTest, UnixSocketsAreTrustedByName) {
  proxies_.add("unix");
  EXPECT_EQ(client(Peer(), "203.0.113.1"), "203.0.113.1");
  EXPECT_EQ(client(Peer(), ""), "unix");
  try {
    proxies_.add("nginx");
    FAIL() << "it was taken";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("or unix"), std::string::npos) << error.what();
  }
}

TEST(ConnectionSlots, AreCountedInAllAndByClient) {
  const auto counts = std::make_shared<ConnectionCounts>();
  const auto take = [&](const Peer& client) {
    ConnectionSlot slot(counts);
    slot.count_for(client);
    return slot;
  };
  std::vector<ConnectionSlot> slots;
  slots.push_back(take(peer("192.0.2.1")));
  slots.push_back(take(peer("192.0.2.1")));
  EXPECT_EQ(slots.back().client_order(), 2u);
  slots.push_back(take(peer("192.0.2.2")));
  EXPECT_EQ(slots.back().client_order(), 1u);
  slots.push_back(take(peer("2001:db8:0:1::1")));
  slots.push_back(take(peer("2001:db8:0:1:ffff::2")));
  EXPECT_EQ(slots.back().client_order(), 2u) << "one /64 is one client";
  slots.push_back(take(peer("2001:db8:0:2::1")));
  EXPECT_EQ(slots.back().client_order(), 1u);
  slots.push_back(take(Peer()));
  EXPECT_EQ(counts->in_all(), 7u);
  EXPECT_EQ(counts->clients(), 5u);
  slots.back().count_for(peer("192.0.2.3"));
  EXPECT_EQ(counts->clients(), 5u) << "a slot is counted once";
  slots.erase(slots.begin());
  EXPECT_EQ(take(peer("192.0.2.1")).client_order(), 2u);
  slots.clear();
  EXPECT_EQ(counts->in_all(), 0u);
  EXPECT_EQ(counts->clients(), 0u) << "the table ends with the connections";
}

}  // namespace
}  // namespace spillway::sse
