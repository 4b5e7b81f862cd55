#include "processor/batch_size.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

using std::chrono::milliseconds;

TEST(BatchSize, StartsAtTheMost) {
  EXPECT_EQ(BatchSize(1000).next(), 1000u);
}

TEST(BatchSize, ShrinksWhenBatchesTakeTooLongAndGrowsWhenTheyAreFullAndQuick) {
  BatchSize size(1000, milliseconds(500));
  size.succeeded(1000, milliseconds(900));
  EXPECT_EQ(size.next(), 500u);
  size.succeeded(500, milliseconds(400));  // neither slow nor quick
  EXPECT_EQ(size.next(), 500u);
  size.succeeded(100, milliseconds(1));  // quick, but not full
  EXPECT_EQ(size.next(), 500u);
  size.succeeded(500, milliseconds(100));
  EXPECT_EQ(size.next(), 1000u);
  size.succeeded(1000, milliseconds(100));
  EXPECT_EQ(size.next(), 1000u);
}

TEST(BatchSize, ASlowBatchThatWasNotFullCountsForWhatItTook) {
  BatchSize size(1000, milliseconds(500));
  size.succeeded(10, milliseconds(900));
  EXPECT_EQ(size.next(), 5u);
}

TEST(BatchSize, FailuresHalveDownToOne) {
  BatchSize size(8);
  for (const std::size_t expected : {4u, 2u, 1u, 1u}) {
    size.failed();
    EXPECT_EQ(size.next(), expected);
  }
}

}  // namespace
}  // namespace spillway
