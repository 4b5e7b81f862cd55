#include "sse/frame.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace spillway::sse {
namespace {

using std::chrono::milliseconds;

std::string frame(std::string_view type, std::string_view data) {
  std::string out;
  append_frame(out, "e1", 7, type, data);
  return out;
}

TEST(Frame, HasEventThenDataThenIdLast) {
  EXPECT_EQ(frame("Added", "{}"), "event: Added\ndata: {}\nid: e1-7\n\n");
}

TEST(Frame, WithoutATypeHasNoEventLine) {
  EXPECT_EQ(frame("", "x"), "data: x\nid: e1-7\n\n");
}

TEST(Frame, EveryKindOfLineBreakBeginsAnotherDataLine) {
  EXPECT_EQ(frame("", "a\nb\rc\r\nd"), "data: a\ndata: b\ndata: c\ndata: d\nid: e1-7\n\n");
  EXPECT_EQ(frame("", "\n\r"), "data: \ndata: \ndata: \nid: e1-7\n\n");
  EXPECT_EQ(frame("", "a\r\n"), "data: a\ndata: \nid: e1-7\n\n");
}

TEST(Frame, EmptyDataIsOneEmptyLine) {
  EXPECT_EQ(frame("", ""), "data: \nid: e1-7\n\n");
}

TEST(Frame, ATypeCannotBreakOutOfItsLine) {
  EXPECT_EQ(frame(std::string_view("a\nid: 1\r\0b", 10), "x"),
            "event: a id: 1  b\ndata: x\nid: e1-7\n\n");
}

TEST(Frame, BytesThatAreNotUtf8AreReplaced) {
  EXPECT_EQ(frame("t\xC0", "a\xFF\xE4\xB8z"),
            "event: t\xEF\xBF\xBD\ndata: a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz\nid: e1-7\n\n");
  EXPECT_EQ(frame("", "\xE4\xB8\xAD\xF0\x9F\x98\x80"),
            "data: \xE4\xB8\xAD\xF0\x9F\x98\x80\nid: e1-7\n\n");
}

TEST(Frame, OpeningIsOneBlockWithRetryAndTheConnectedFrame) {
  std::string out;
  append_opening(out, milliseconds(2000), "e1", 18446744073709551615ull, {"A:\"1\""});
  EXPECT_EQ(out,
            "retry: 2000\n"
            "data: {\"type\":\"connected\",\"channel\":\"A:\\\"1\\\"\","
            "\"position\":\"18446744073709551615\"}\n"
            "id: e1-18446744073709551615\n\n");
}

TEST(Frame, OpeningOfSeveralChannelsListsThem) {
  std::string out;
  append_opening(out, milliseconds(1), "e", 0, {"A:1", "B:*"});
  EXPECT_EQ(out,
            "retry: 1\n"
            "data: {\"type\":\"connected\",\"channel\":\"A:1,B:*\",\"position\":\"0\","
            "\"channels\":[\"A:1\",\"B:*\"]}\n"
            "id: e-0\n\n");
}

TEST(Frame, ResetNamesReasonRequestFloorAndHead) {
  std::string out;
  append_reset(out, "e1", ResetReason::expired, "e1-3", 5, 9);
  EXPECT_EQ(out,
            "event: reset\n"
            "data: {\"reason\":\"expired\",\"requested\":\"e1-3\",\"floor\":\"5\",\"head\":\"9\"}\n"
            "id: e1-9\n\n");
}

TEST(Frame, ResetCutsWhatWasRequestedAndKeepsItJson) {
  for (const std::string& requested :
       {std::string(1000, 'x'), std::string(63, 'x') + "\xE4\xB8\xAD",
        std::string("\"\n\\\x01\xFF"), std::string(500, '\xFF')}) {
    std::string out;
    append_reset(out, "e", ResetReason::invalid, requested, 0, 1);
    const std::size_t start = out.find("data: ") + 6;
    const auto json = nlohmann::json::parse(out.substr(start, out.find('\n', start) - start));
    EXPECT_LE(json.at("requested").get<std::string>().size(), 64u);
    EXPECT_EQ(json.at("reason"), "invalid");
  }
}

TEST(Frame, HeartbeatIsAColonAndOneNewline) {
  EXPECT_EQ(kHeartbeat, ":\n");
}

TEST(Frame, ComeBackIsAStreamThatOnlySetsRetry) {
  EXPECT_EQ(come_back(milliseconds(1234)),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            "Cache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\n"
            "Connection: close\r\n\r\nretry: 1234\n\n");
}

TEST(Frame, ComeBackSaysWhyInACommentOfOneLine) {
  const std::string bytes = come_back(milliseconds(7), "a\nb\rc\xFF\n\nevent: x", "A: b\r\n");
  EXPECT_EQ(bytes.substr(bytes.find("Connection")),
            "Connection: close\r\nA: b\r\n\r\nretry: 7\n: a b c\xEF\xBF\xBD  event: x\n\n");
}

TEST(Frame, JitterSpreadsRetryOverOneToThreeTimesItsValue) {
  EXPECT_EQ(jittered(milliseconds(1000), 0), milliseconds(1000));
  EXPECT_EQ(jittered(milliseconds(1000), 2000), milliseconds(3000));
  EXPECT_EQ(jittered(milliseconds(1000), 2001), milliseconds(1000));
  EXPECT_EQ(jittered(milliseconds(0), 4000000000u), milliseconds(0));
}

}  // namespace
}  // namespace spillway::sse
