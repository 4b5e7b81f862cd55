// Whose turn it is to read a page of the database, without streams.
#include "sse/page_admission.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace spillway::sse::test {
namespace {

using Place = PageAdmission::Place;

class PageAdmissionTest : public testing::Test {
 protected:
  PageAdmissionTest() { admission.limit(1000); }
  std::vector<std::unique_ptr<Place>> places(std::size_t count) {
    std::vector<std::unique_ptr<Place>> all;
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(std::make_unique<Place>(admission));
      admission.wait(*all.back());
    }
    return all;
  }
  PageAdmission admission;
};

TEST_F(PageAdmissionTest, AFewReadAtATimeFirstComeFirstServed) {
  const auto all = places(PageAdmission::kReading + 2);
  for (std::size_t i = 0; i < PageAdmission::kReading; ++i)
    EXPECT_EQ(admission.next(), all[i].get());
  EXPECT_EQ(admission.next(), nullptr);
  EXPECT_EQ(admission.waiting(), 2u);
  EXPECT_FALSE(admission.full());
  admission.answered();
  EXPECT_EQ(admission.next(), all[PageAdmission::kReading].get());
  EXPECT_EQ(admission.next(), nullptr);
}

TEST_F(PageAdmissionTest, NobodyReadsWhileTheBytesAreUsedUp) {
  const auto all = places(3);
  ASSERT_EQ(admission.next(), all[0].get());
  admission.answered();
  admission.hold(*all[0], 5000);  // one large page is let in, and then there is no room
  EXPECT_EQ(admission.next(), nullptr);
  EXPECT_TRUE(admission.full());
  admission.hold(*all[0], 999);  // it has given most of it back
  EXPECT_EQ(admission.bytes(), 999u);
  EXPECT_EQ(admission.next(), all[1].get());
}

TEST_F(PageAdmissionTest, APlaceThatGoesGivesBackWhatItHad) {
  auto all = places(3);
  ASSERT_EQ(admission.next(), all[0].get());
  admission.hold(*all[0], 1000);
  all[0].reset();
  EXPECT_EQ(admission.bytes(), 0u);
  all[1].reset();  // while it waits
  EXPECT_EQ(admission.waiting(), 1u);
  EXPECT_EQ(admission.next(), all[2].get());
  EXPECT_EQ(admission.waiting(), 0u);
  EXPECT_EQ(admission.next(), nullptr);
  EXPECT_FALSE(admission.full());
}

TEST_F(PageAdmissionTest, WhoLeavesWhileReadingStillCountsAsReading) {
  {
    const auto gone = places(PageAdmission::kReading);
    while (admission.next() != nullptr) {
    }
  }
  const auto next = places(1);
  EXPECT_EQ(admission.next(), nullptr) << "the database is still busy with the others";
  admission.answered();
  EXPECT_EQ(admission.next(), next[0].get());
}

TEST_F(PageAdmissionTest, WhoComesAgainStandsAtTheEnd) {
  const auto all = places(2);
  ASSERT_EQ(admission.next(), all[0].get());
  admission.hold(*all[0], 10);
  admission.wait(*all[0]);
  EXPECT_EQ(admission.bytes(), 0u);
  EXPECT_EQ(admission.next(), all[1].get());
  EXPECT_EQ(admission.next(), all[0].get());
  std::size_t holding = 0;
  admission.hold(*all[0], 10);
  admission.hold(*all[1], 10);
  admission.visit_holding([&](Place& place) {
    ++holding;
    place.leave();
  });
  EXPECT_EQ(holding, 2u);
  EXPECT_EQ(admission.bytes(), 0u);
}

}  // namespace
}  // namespace spillway::sse::test
