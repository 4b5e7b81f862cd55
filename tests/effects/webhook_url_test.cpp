#include "effects/webhook_url.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

std::string problem_of(const std::string& text) {
  WebhookUrl url;
  std::string problem;
  return parse_webhook_url(text, url, problem) ? "no problem" : problem;
}

// scheme, Host header, host, port and target in one line.
std::string parts_of(const std::string& text) {
  WebhookUrl url;
  std::string problem;
  if (!parse_webhook_url(text, url, problem)) return problem;
  return std::string(url.tls ? "https " : "http ") + url.authority() + " " + url.host + " " +
         std::to_string(url.port) + " " + url.target;
}

TEST(WebhookUrl, IsTakenApart) {
  EXPECT_EQ(parts_of("http://a.example"), "http a.example a.example 80 /");
  EXPECT_EQ(parts_of("HTTPS://A.Example/P/q?r=S#t"), "https a.example a.example 443 /P/q?r=S");
  EXPECT_EQ(parts_of("https://a.example:443/"), "https a.example a.example 443 /");
  EXPECT_EQ(parts_of("http://a.example:443/"), "http a.example:443 a.example 443 /");
  EXPECT_EQ(parts_of("http://a?x=/:@"), "http a a 80 /?x=/:@");
  EXPECT_EQ(parts_of("http://a#f"), "http a a 80 /");
  EXPECT_EQ(parts_of("http://10.0.0.1:65535/"), "http 10.0.0.1:65535 10.0.0.1 65535 /");
  EXPECT_EQ(parts_of("http://[::FFFF:7f00:1]:8/x"), "http [::ffff:7f00:1]:8 ::ffff:7f00:1 8 /x");
}

TEST(WebhookUrl, WhatTwoReadersCouldUnderstandDifferentlyIsRefused) {
  const std::string characters =
      "holds a character that a URL cannot hold; write it percent-encoded";
  EXPECT_EQ(problem_of("http://a/ b"), characters);
  EXPECT_EQ(problem_of("http://a/\r\nX: y"), characters);
  EXPECT_EQ(problem_of(std::string("http://a/\0", 10)), characters);
  EXPECT_EQ(problem_of("http://a\\@b/"), characters);
  EXPECT_EQ(problem_of("http://b\xc3\xbc"
                       "cher.example/"),
            characters);
  const std::string user = "must not hold a user or password; put them into headers";
  EXPECT_EQ(problem_of("http://user:secret@a/"), user);
  EXPECT_EQ(problem_of("http://a:80@b/"), user);
  EXPECT_EQ(problem_of("http://@a/"), user);
}

TEST(WebhookUrl, WhatIsNoWebAddressIsRefused) {
  const std::string scheme = "must begin with http:// or https://";
  for (const char* text :
       {"", "a", "ftp://a/", "//a/", "http:/a", "file:///etc/passwd", "httpx://a"})
    EXPECT_EQ(problem_of(text), scheme) << text;
  for (const char* text : {"http://", "http:///x", "https://:80/", "http://?x"})
    EXPECT_EQ(problem_of(text), "has no host") << text;
  EXPECT_EQ(problem_of("http://a%2eb/"), "has a host with characters that a host name cannot hold");
  EXPECT_EQ(problem_of("http://[::1/"), "has a bracket that is not closed");
  for (const char* text : {"http://[]/", "http://[a.example]/", "http://[fe80::1%25eth0]/"})
    EXPECT_EQ(problem_of(text), "has brackets around something that is not an IPv6 address")
        << text;
  EXPECT_EQ(problem_of("http://[::1]x/"), "has something behind its host that is not a port");
  for (const char* text : {"http://a:/", "http://a:0/", "http://a:65536/", "http://a:-1/",
                           "http://a:+80/", "http://a:80x/", "http://a:80:80/"})
    EXPECT_EQ(problem_of(text), "has a port that is not a number from 1 to 65535") << text;
}

TEST(WebhookUrl, LengthsAreBounded) {
  EXPECT_EQ(problem_of("http://a/" + std::string(2039, 'x')), "no problem");
  EXPECT_EQ(problem_of("http://a/" + std::string(2040, 'x')), "is longer than 2048 bytes");
  EXPECT_EQ(problem_of("http://" + std::string(254, 'a') + "/"),
            "has a host name of more than 253 bytes");
}

}  // namespace
}  // namespace spillway
