// What is read off a header, and that secrets do not get out of it.
#include "sse/request_head.hpp"

#include <gtest/gtest.h>

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>

namespace spillway::sse {
namespace {

RequestHead read(const std::string& text) {
  namespace http = boost::beast::http;
  http::request_parser<http::string_body> parser;
  boost::beast::error_code error;
  parser.put(boost::asio::buffer(text), error);
  EXPECT_FALSE(error) << error.message();
  return read_request_head(parser.get());
}

RequestHead of_target(const std::string& target) {
  return read("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST(RequestHead, HoldsWhatTheHeaderSays) {
  const RequestHead head = read(
      "POST /ev%65nts?wait=1&x HTTP/1.1\r\nHost: a:80\r\nOrigin: http://a\r\n"
      "authorization: Bearer x\r\nCookie: a=1\r\nCookie: b=2\r\n"
      "Content-Type: Application/JSON ; charset=utf-8\r\nLAST-EVENT-ID: e-7\r\n"
      "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n"
      "Access-Control-Request-Method: PUT\r\n\r\n");
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/ev%65nts");
  EXPECT_EQ(head.query, "wait=1&x");
  EXPECT_EQ(head.host, "a:80");
  EXPECT_EQ(head.origin, "http://a");
  EXPECT_EQ(head.authorization, "Bearer x");
  EXPECT_EQ(head.cookie, "a=1; b=2");
  EXPECT_EQ(head.content_type, "application/json");
  EXPECT_EQ(head.last_event_id, "e-7");
  EXPECT_EQ(head.forwarded_for, "10.0.0.1, 10.0.0.2");
  EXPECT_EQ(head.preflight_method, "PUT");
  EXPECT_EQ(head.ambiguous, "");
}

TEST(RequestHead, TheLastIdIsTheHeadersElseTheOneThatThePolyfillWritesIntoTheQuery) {
  EXPECT_EQ(of_target("/sse/A/1?lastEventId=e-7").last_event_id, "e-7");
  EXPECT_EQ(
      read("GET /sse/A/1?lastEventId=e-7 HTTP/1.1\r\nLast-Event-ID: e-6\r\n\r\n").last_event_id,
      "e-6");
  EXPECT_EQ(of_target("/sse/A/1?last_event_id=e-7").last_event_id, "");  // is looked at apart
}

TEST(RequestHead, AnAbsoluteTargetsHostCounts) {
  const RequestHead head = read("GET http://other:8080/a?b HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(head.host, "other:8080");
  EXPECT_EQ(head.path, "/a");
  EXPECT_EQ(head.query, "b");
}

TEST(RequestHead, WhatMustBeUniqueAndIsNotIsNamed) {
  for (const char* name : {"Host", "Origin", "Authorization", "Content-Type"}) {
    const std::string line = std::string(name) + ": x\r\n";
    EXPECT_EQ(read("GET / HTTP/1.1\r\n" + line + "X: y\r\n" + line + "\r\n").ambiguous, name);
  }
}

TEST(RequestHead, ATokenIsNotInTheTargetForLogs) {
  EXPECT_EQ(of_target("/sse/A/b").redacted_target(), "/sse/A/b");
  EXPECT_EQ(of_target("/sse?channel=a%3A1&last_event_id=e-1").redacted_target(),
            "/sse?channel=a%3A1&last_event_id=e-1");
  for (const char* name : {"access_token", "ACCESS_TOKEN", "access%5Ftoken", "%61ccess_token"}) {
    const RequestHead head =
        of_target("/sse?x=1&" + std::string(name) + "=SECRET&channel=a&" + name + "=SECRET");
    EXPECT_EQ(head.redacted_target(),
              "/sse?x=1&" + std::string(name) + "=…&channel=a&" + name + "=…");
    EXPECT_EQ(without_token(head.query), "x=1&channel=a");
  }
  EXPECT_EQ(of_target("http://u:p@host/x?access_token=SECRET").redacted_target(),
            "/x?access_token=…");
  EXPECT_EQ(without_token("access_token=SECRET"), "");
}

}  // namespace
}  // namespace spillway::sse
