#include "sse/resume.hpp"

#include <gtest/gtest.h>

namespace spillway::sse {
namespace {

// Positions 101 to 200 are in memory; the database keeps 51 and later and stands at 210.
const MemoryWindow kMemory{"e", 100, 200};

ReplayPage page(std::uint64_t head = 210, std::uint64_t floor = 50, std::string epoch = "e") {
  ReplayPage page;
  page.head = {std::move(epoch), head, 0};
  page.floor = floor;
  page.upto = head;
  return page;
}

ResumePoint at(std::string_view id) {
  return parse_resume_point(id);
}

TEST(Resume, WithoutAnIdIsLiveFromTheHead) {
  EXPECT_EQ(resume_at_start({}, kMemory), AtStart(GoLive{200}));
}

TEST(Resume, AnIdInMemoryIsServedFromMemory) {
  EXPECT_EQ(resume_at_start(at("e-100"), kMemory), AtStart(GoLive{100}));
  EXPECT_EQ(resume_at_start(at("e-200"), kMemory), AtStart(GoLive{200}));
}

TEST(Resume, AnOlderIdReadsPages) {
  EXPECT_EQ(resume_at_start(at("e-99"), kMemory), AtStart(ReadPage{99, kPageLimit}));
  EXPECT_EQ(resume_on_first_page(at("e-99"), page(), kMemory), OnFirstPage(SendPage{99}));
  EXPECT_EQ(resume_on_first_page(at("e-50"), page(), kMemory), OnFirstPage(SendPage{50}));
}

TEST(Resume, EarliestBeginsAtTheFloor) {
  EXPECT_EQ(resume_at_start(at("earliest"), kMemory), AtStart(ReadPage{std::nullopt, kPageLimit}));
  EXPECT_EQ(resume_on_first_page(at("earliest"), page(), kMemory), OnFirstPage(SendPage{50}));
}

TEST(Resume, AnIdBelowTheFloorHasExpired) {
  EXPECT_EQ(resume_on_first_page(at("e-49"), page(), kMemory),
            OnFirstPage(Reset{ResetReason::expired, 50, 200}));
}

TEST(Resume, AnotherEpochIsReset) {
  EXPECT_EQ(resume_at_start(at("x-150"), kMemory), AtStart(ReadPage{200, 1}));
  EXPECT_EQ(resume_on_first_page(at("x-150"), page(), kMemory),
            OnFirstPage(Reset{ResetReason::epoch, 50, 200}));
}

TEST(Resume, WhatIsNotAnIdIsReset) {
  EXPECT_EQ(resume_at_start(at("garbage"), kMemory), AtStart(ReadPage{200, 1}));
  EXPECT_EQ(resume_on_first_page(at("garbage"), page(), kMemory),
            OnFirstPage(Reset{ResetReason::invalid, 50, 200}));
}

TEST(Resume, AheadOfThisProcessButNotOfTheDatabaseWaits) {
  EXPECT_EQ(resume_at_start(at("e-205"), kMemory), AtStart(ReadPage{205, 1}));
  EXPECT_EQ(resume_on_first_page(at("e-205"), page(), kMemory), OnFirstPage(GoLive{205}));
  EXPECT_EQ(resume_on_first_page(at("e-210"), page(), kMemory), OnFirstPage(GoLive{210}));
}

TEST(Resume, AheadOfBothIsTheFuture) {
  EXPECT_EQ(resume_on_first_page(at("e-211"), page(), kMemory),
            OnFirstPage(Reset{ResetReason::future, 50, 200}));
}

TEST(Resume, AheadOfAStalePageButNotOfMemoryIsServed) {
  EXPECT_EQ(resume_on_first_page(at("e-190"), page(180), kMemory), OnFirstPage(GoLive{190}));
}

TEST(Resume, ADatabaseOfAnotherEpochThanMemoryMeansComeBack) {
  for (const char* id : {"e-90", "earliest", "garbage", "x-1"})
    EXPECT_EQ(resume_on_first_page(at(id), page(5, 0, "new"), kMemory), OnFirstPage(ComeBack{}));
  EXPECT_EQ(resume_on_next_page(90, page(5, 0, "new"), kMemory), OnNextPage(ComeBack{}));
}

TEST(Resume, ALaterPageContinuesUnlessItsStartWasPruned) {
  EXPECT_EQ(resume_on_next_page(60, page(), kMemory), OnNextPage(SendPage{60}));
  EXPECT_EQ(resume_on_next_page(40, page(), kMemory), OnNextPage(ComeBack{}));
}

TEST(Resume, JoinsMemoryAsSoonAsItReachesIt) {
  EXPECT_EQ(resume_on_page_sent(60, 99, kMemory), OnPageSent(ReadPage{99, kPageLimit}));
  EXPECT_EQ(resume_on_page_sent(60, 100, kMemory), OnPageSent(GoLive{100}));
  EXPECT_EQ(resume_on_page_sent(60, 210, kMemory), OnPageSent(GoLive{210}));
}

TEST(Resume, ADatabaseThatMakesNoProgressIsNotAskedInALoop) {
  EXPECT_EQ(resume_on_page_sent(60, 60, kMemory), OnPageSent(ComeBack{}));
}

}  // namespace
}  // namespace spillway::sse
