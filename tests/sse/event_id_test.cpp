#include "sse/event_id.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace spillway::sse {
namespace {

using Kind = ResumePoint::Kind;

TEST(EventId, WhatIsWrittenIsRead) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t position = random() >> (random() % 64);
    std::string epoch;
    for (std::size_t n = 1 + random() % 16; n > 0; --n)
      epoch += "abcdefghijklmnopqrstuvwxyz0123456789"[random() % 36];
    std::string text;
    append_event_id(text, epoch, position);
    ASSERT_LE(text.size(), kEventIdBytes);
    ASSERT_EQ(parse_event_id(text), (EventId{epoch, position})) << text;
  }
}

TEST(EventId, TakesTheLargestPosition) {
  EXPECT_EQ(parse_event_id("e-18446744073709551615")->position,
            std::numeric_limits<std::uint64_t>::max());
}

TEST(EventId, RefusesEverythingElse) {
  for (const char* text : {"", "-", "e", "e-", "-1", "e-01", "e--1", "e-+1", "e- 1", "e-1 ", "e-1x",
                           "E-1", "e_-1", "e-18446744073709551616", "e-99999999999999999999999999",
                           "abcdefghijklmnopq-1", "7", "\xC3\xA9-1", "e-1\n"})
    EXPECT_EQ(parse_event_id(text), std::nullopt) << text;
  EXPECT_EQ(parse_event_id("e-" + std::string(1000, '1')), std::nullopt);
}

TEST(EventId, RandomBytesNeverBecomeAnIdThatIsWrittenDifferently) {
  std::mt19937 random(2);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (std::size_t n = random() % 8; n > 0; --n) text += "e0-19a"[random() % 6];
    if (const auto id = parse_event_id(text)) {
      std::string again;
      append_event_id(again, id->epoch, id->position);
      ASSERT_EQ(again, text);
    }
  }
}

TEST(ResumePoint, NothingOrEmptyIsNoResume) {
  EXPECT_EQ(choose_resume_point("", "", "e", 9).kind, Kind::none);
}

TEST(ResumePoint, TheLaterPositionOfOneEpochWins) {
  EXPECT_EQ(choose_resume_point("e-5", "e-9", "e", 9).id.position, 9u);
  EXPECT_EQ(choose_resume_point("e-9", "e-5", "e", 9).id.position, 9u);
  EXPECT_EQ(choose_resume_point("x-9", "x-5", "e", 9).id.position, 9u);
}

// Else a page that opened its stream with such an id would be reset whenever it comes back.
TEST(ResumePoint, AQueryThatLiesAfterEverythingDoesNotBeatAHeaderThatDoesNot) {
  EXPECT_EQ(choose_resume_point("e-5", "e-10", "e", 9).requested, "e-5");
  EXPECT_EQ(choose_resume_point("", "e-10", "e", 9).requested, "e-10");
  EXPECT_EQ(choose_resume_point("e-10", "e-11", "e", 9).requested, "e-11");
  EXPECT_EQ(choose_resume_point("e-10", "e-5", "e", 9).requested, "e-10");
}

TEST(ResumePoint, OfTwoEpochsTheCurrentOneWinsElseTheHeader) {
  EXPECT_EQ(choose_resume_point("old-9", "e-5", "e", 9).requested, "e-5");
  EXPECT_EQ(choose_resume_point("e-5", "old-9", "e", 9).requested, "e-5");
  EXPECT_EQ(choose_resume_point("old-5", "older-9", "e", 9).requested, "old-5");
}

TEST(ResumePoint, AnIdBeatsEarliestWhichBeatsGarbageWhichBeatsNothing) {
  EXPECT_EQ(choose_resume_point("e-5", "earliest", "e", 9).requested, "e-5");
  EXPECT_EQ(choose_resume_point("earliest", "e-5", "e", 9).requested, "e-5");
  EXPECT_EQ(choose_resume_point("garbage", "earliest", "e", 9).kind, Kind::earliest);
  EXPECT_EQ(choose_resume_point("earliest", "garbage", "e", 9).kind, Kind::earliest);
  EXPECT_EQ(choose_resume_point("garbage", "e-1", "e", 9).requested, "e-1");
  EXPECT_EQ(choose_resume_point("garbage", "", "e", 9).kind, Kind::invalid);
  EXPECT_EQ(choose_resume_point("", "garbage", "e", 9).requested, "garbage");
  EXPECT_EQ(choose_resume_point("one!", "two!", "e", 9).requested, "one!");
}

}  // namespace
}  // namespace spillway::sse
