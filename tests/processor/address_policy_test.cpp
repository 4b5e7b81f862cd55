#include "processor/address_policy.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace spillway {
namespace {

std::string refusal(const AddressPolicy& policy, const std::string& address) {
  return policy.refusal(boost::asio::ip::make_address(address));
}

TEST(AddressPolicy, GlobalAddressesPass) {
  const AddressPolicy policy;
  for (const char* address :
       {"8.8.8.8",         "1.0.0.0",         "9.255.255.255",   "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",     "126.255.255.255", "128.0.0.0",
        "169.253.255.255", "169.255.0.0",     "172.15.255.255",  "172.32.0.0",
        "192.0.1.0",       "192.167.255.255", "192.169.0.0",     "198.17.255.255",
        "198.20.0.0",      "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888",
        "2001:200::",      "2003::1",         "64:ff9b::808:808"})
    EXPECT_EQ(refusal(policy, address), "") << address;
}

TEST(AddressPolicy, WhatOnlyThisMachineOrItsNetworkCanReachIsRefused) {
  const AddressPolicy policy;
  const auto all = [&](const char* kind, std::initializer_list<const char*> addresses) {
    for (const char* address : addresses) EXPECT_EQ(refusal(policy, address), kind) << address;
  };
  all("loopback", {"127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"});
  all("unspecified", {"0.0.0.0", "0.255.255.255", "::"});
  all("a private network",
      {"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0",
       "192.168.255.255", "fc00::", "fdff:ffff::1", "fec0::1", "feff::1"});
  all("a carrier's shared network", {"100.64.0.0", "100.127.255.255"});
  all("link-local", {"169.254.0.0", "169.254.169.254", "169.254.255.255", "fe80::1", "febf::1"});
  all("multicast", {"224.0.0.1", "239.255.255.255", "ff02::1"});
  all("reserved", {"192.0.0.1", "192.0.2.1", "198.18.0.0", "198.19.255.255", "198.51.100.1",
                   "203.0.113.1", "240.0.0.0", "255.255.255.255", "100::1", "2001::1",
                   "2001:1ff::1", "2001:db8::1", "3fff::1", "4000::1", "::2", "::7f00:1"});
  all("a relay", {"192.88.99.1", "2002:7f00:1::"});
}

TEST(AddressPolicy, AnIPv4AddressInsideAnIPv6OneIsNoWayAround) {
  const AddressPolicy policy;
  for (const char* address : {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"})
    EXPECT_EQ(refusal(policy, address), "an IPv4 address in disguise") << address;
  EXPECT_EQ(refusal(policy, "64:ff9b::7f00:1"), "loopback");
  EXPECT_EQ(refusal(policy, "64:ff9b::a9fe:a9fe"), "link-local");
  EXPECT_EQ(refusal(policy, "64:ff9b:1::808:808"), "reserved");
}

TEST(AddressPolicy, TheOperatorMayAllowNetworks) {
  AddressPolicy policy;
  policy.allow("10.1.0.0/16");
  policy.allow("127.0.0.1");
  policy.allow("fd00:1::/31");
  EXPECT_EQ(refusal(policy, "10.1.0.0"), "");
  EXPECT_EQ(refusal(policy, "10.1.255.255"), "");
  EXPECT_EQ(refusal(policy, "10.0.255.255"), "a private network");
  EXPECT_EQ(refusal(policy, "10.2.0.0"), "a private network");
  EXPECT_EQ(refusal(policy, "127.0.0.1"), "");
  EXPECT_EQ(refusal(policy, "127.0.0.2"), "loopback");
  EXPECT_EQ(refusal(policy, "::ffff:127.0.0.1"), "an IPv4 address in disguise");
  EXPECT_EQ(refusal(policy, "fd00:0:ffff::1"), "");
  EXPECT_EQ(refusal(policy, "fd00:1::1"), "");
  EXPECT_EQ(refusal(policy, "fd00:2::1"), "a private network");
}

TEST(AddressPolicy, AZeroPrefixIsTheWholeFamily) {
  AddressPolicy policy;
  policy.allow("0.0.0.0/0");
  EXPECT_EQ(refusal(policy, "192.168.1.1"), "");
  EXPECT_EQ(refusal(policy, "::1"), "loopback");
}

TEST(AddressPolicy, WhatIsNoNetworkIsRefusedWithWhatToWrite) {
  AddressPolicy policy;
  const auto problem = [&](const char* text) {
    try {
      policy.allow(text);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  EXPECT_EQ(problem("localhost"),
            "localhost is not an address; write a network such as 10.1.0.0/16 or fd00::/8");
  for (const char* text : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "::/129"})
    EXPECT_NE(problem(text).find("has a prefix length that is not one"), std::string::npos) << text;
  for (const char* text : {"", "10.0.0/8", "10.0.0.0.0", "fe80::1%lo/64"})
    EXPECT_NE(problem(text), "taken") << text;
}

}  // namespace
}  // namespace spillway
