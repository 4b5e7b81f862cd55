// Hosts and origins, as browsers write them and as attackers do.
#include "sse/origin.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace spillway::sse {
namespace {

RequestHead from(std::string origin, std::string host) {
  RequestHead head;
  head.origin = std::move(origin);
  head.host = std::move(host);
  return head;
}

TEST(Origin, HostAndPortAreTakenApart) {
  EXPECT_EQ(parse_authority("Example.com"), (Authority{"example.com", std::nullopt}));
  EXPECT_EQ(parse_authority("127.0.0.1:8080"), (Authority{"127.0.0.1", 8080}));
  EXPECT_EQ(parse_authority("[::1]:80"), (Authority{"::1", 80}));
  EXPECT_EQ(parse_authority("[::1]"), (Authority{"::1", std::nullopt}));
  for (const char* bad : {"", ":80", "a:", "a:b", "a:65536", "a:-1", "a:80:80", "a b", "u@a", "a/b",
                          "::1", "[::1", "[::1]x", "[]", "[a]", "a,b", "a\"", "[::1%25eth0]"})
    EXPECT_FALSE(parse_authority(bad)) << bad;
}

TEST(Origin, TheMachinesOwnNamesLeadHere) {
  for (const char* own :
       {"", "localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080",
        "127.255.0.9:1", "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]:1"})
    EXPECT_TRUE(is_own_host(own, {})) << own;
  for (const char* other : {"evil.example",
                            "evil.example:8080",
                            "localhost.evil.example",
                            "127.0.0.1.evil.example",
                            "127.evil.example",
                            "xlocalhost",
                            "localhost@evil.example",
                            "evil.example@localhost",
                            "0.0.0.0",
                            "10.0.0.1:8080",
                            "[::2]:8080",
                            "[::]",
                            "2130706433",
                            "127.1",
                            "0x7f.0.0.1",
                            "localhost,evil",
                            "localhost:80:80",
                            "localhost/",
                            "::1",
                            "127.0.0.1#"})
    EXPECT_FALSE(is_own_host(other, {})) << other;
}

TEST(Origin, AllowedHostsLeadHereOnAnyPort) {
  const std::vector<std::string> allowed{"streams.example.com", "2001:db8::7"};
  EXPECT_TRUE(is_own_host("streams.example.com", allowed));
  EXPECT_TRUE(is_own_host("Streams.Example.com:8443", allowed));
  EXPECT_TRUE(is_own_host("[2001:db8::7]:1", allowed));
  EXPECT_TRUE(is_own_host("localhost", allowed));
  EXPECT_FALSE(is_own_host("a.streams.example.com", allowed));
  EXPECT_FALSE(is_own_host("example.com", allowed));
  EXPECT_EQ(problem_of_host_name("streams.example.com"), "");
  EXPECT_EQ(problem_of_host_name("2001:db8::7"), "");
  for (const char* bad : {"", "http://a", "a:80", "a/", "*", "*.example.com"})
    EXPECT_NE(problem_of_host_name(bad), "") << bad;
}

TEST(Origin, APageOfHereHasHostAndPortAsInHost) {
  const auto kind = [](const char* origin, const char* host) {
    return origin_kind(from(origin, host), {});
  };
  EXPECT_EQ(kind("", "a:80"), OriginKind::none);
  EXPECT_EQ(kind("http://127.0.0.1:8080", "127.0.0.1:8080"), OriginKind::same);
  EXPECT_EQ(kind("http://[::1]:8080", "[::1]:8080"), OriginKind::same);
  EXPECT_EQ(kind("http://a.example", "a.example"), OriginKind::same);
  EXPECT_EQ(kind("http://a.example", "a.example:80"), OriginKind::same);
  EXPECT_EQ(kind("https://a.example", "a.example"), OriginKind::same);  // a proxy took TLS off
  EXPECT_EQ(kind("https://a.example:8443", "A.example:8443"), OriginKind::same);
  for (const char* origin :
       {"http://127.0.0.1:8081", "http://127.0.0.1", "http://localhost:8080", "null",
        "http://127.0.0.1:8080.evil.example", "http://evil.example", "http://127.0.0.1:8080/",
        "127.0.0.1:8080", "file://", "ftp://127.0.0.1:8080", "http://u@127.0.0.1:8080", "http://",
        "chrome-extension://127.0.0.1:8080", "http://127.0.0.1:8080 http://evil.example"})
    EXPECT_EQ(kind(origin, "127.0.0.1:8080"), OriginKind::foreign) << origin;
  EXPECT_EQ(kind("http://a", ""), OriginKind::foreign);
}

TEST(Origin, ListedOnesAreComparedWhole) {
  const std::vector<std::string> listed{"https://app.example", "http://a:3000"};
  EXPECT_EQ(origin_kind(from("https://app.example", "x"), listed), OriginKind::listed);
  for (const char* origin :
       {"http://app.example", "https://app.example:444", "https://app.example.evil",
        "https://evil.app.example", "https://APP.example", "null", "*", "http://a:300"})
    EXPECT_EQ(origin_kind(from(origin, "x"), listed), OriginKind::foreign) << origin;
  EXPECT_EQ(origin_kind(from("http://b", "x"), {"*"}), OriginKind::any);
  EXPECT_EQ(origin_kind(from("null", "x"), {"*"}), OriginKind::any);
  EXPECT_EQ(origin_kind(from("*", "x"), {"*"}), OriginKind::any);
  EXPECT_EQ(origin_kind(from("https://app.example", "x"), {"*", "https://app.example"}),
            OriginKind::listed);
}

TEST(Origin, WhatIsNoOriginIsSaid) {
  for (const char* good :
       {"*", "https://app.example.com", "http://localhost:3000", "http://[::1]:1"})
    EXPECT_EQ(problem_of_origin(good), "") << good;
  for (const char* bad :
       {"", "app.example.com", "https://", "https://a/", "https://a/b", "https://a?b", "null",
        "https://*.example.com", "https://u@a", "https://A.example", "ws://a", "https://a:443",
        "http://a:80", "https://a b", "https://a:", "HTTPS://a"})
    EXPECT_NE(problem_of_origin(bad), "") << bad;
}

TEST(Origin, TheAnswerSaysWhoMayReadIt) {
  using Pairs = Headers;
  const std::vector<std::string> listed{"https://app.example"};
  const auto headers = [](const char* origin, const std::vector<std::string>& list) {
    const RequestHead head = from(origin, "here:8080");
    return cors_headers(head, origin_kind(head, list), list);
  };
  EXPECT_EQ(headers("https://app.example", {}), Pairs{});
  EXPECT_EQ(headers("https://app.example", listed),
            (Pairs{{"Access-Control-Allow-Origin", "https://app.example"},
                   {"Access-Control-Allow-Credentials", "true"},
                   {"Access-Control-Expose-Headers", "X-Total-Count, Retry-After"},
                   {"Vary", "Origin"}}));
  EXPECT_EQ(headers("https://evil.example", listed), (Pairs{{"Vary", "Origin"}}));
  EXPECT_EQ(headers("", listed), (Pairs{{"Vary", "Origin"}}));
  EXPECT_EQ(headers("https://evil.example", {"*"}),
            (Pairs{{"Access-Control-Allow-Origin", "*"},
                   {"Access-Control-Expose-Headers", "X-Total-Count, Retry-After"}}));
}

}  // namespace
}  // namespace spillway::sse
