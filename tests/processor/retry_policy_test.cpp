#include "processor/retry_policy.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace spillway {
namespace {

using std::chrono::milliseconds;

TEST(RetryPolicy, DelaysDoubleUpToTheLongest) {
  RetryPolicy policy;
  policy.base = milliseconds(1000);
  policy.longest = milliseconds(5000);
  const double most = 1.0;
  EXPECT_EQ(policy.delay(1, most), milliseconds(1000));
  EXPECT_EQ(policy.delay(2, most), milliseconds(2000));
  EXPECT_EQ(policy.delay(3, most), milliseconds(4000));
  EXPECT_EQ(policy.delay(4, most), milliseconds(5000));
  EXPECT_EQ(policy.delay(32000, most), milliseconds(5000));
}

TEST(RetryPolicy, JitterTakesBetweenHalfAndTheWhole) {
  const RetryPolicy policy;
  EXPECT_EQ(policy.delay(1, 0), milliseconds(500));
  EXPECT_EQ(policy.delay(1, 0.5), milliseconds(750));
  EXPECT_EQ(policy.delay(3, 0), milliseconds(2000));
}

TEST(RetryPolicy, ABaseBeyondTheLongestIsKept) {
  RetryPolicy policy;
  policy.base = std::chrono::hours(2);
  for (const int attempts : {1, 2, 50})
    EXPECT_EQ(policy.delay(attempts, 1.0), std::chrono::hours(2)) << attempts;
}

TEST(RetryPolicy, NoBaseMeansNoDelay) {
  RetryPolicy policy;
  policy.base = milliseconds(0);
  EXPECT_EQ(policy.delay(1, 0.9), milliseconds(0));
  EXPECT_EQ(policy.delay(32000, 0.9), milliseconds(0));
}

TEST(RetryPolicy, EventsThatFailedTogetherAreSpreadOverHalfTheDelay) {
  const RetryPolicy policy;
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> share(0, 1);
  std::set<milliseconds> delays;
  for (int i = 0; i < 1000; ++i) {
    const milliseconds delay = policy.delay(4, share(random));
    EXPECT_GE(delay, milliseconds(4000));
    EXPECT_LE(delay, milliseconds(8000));
    delays.insert(delay);
  }
  EXPECT_GT(delays.size(), 700u);
  EXPECT_LT(*delays.begin(), milliseconds(4200));
  EXPECT_GT(*delays.rbegin(), milliseconds(7800));
}

TEST(Classify, SaysWhatARetryCanMend) {
  for (const char* state : {"57P01", "57P03", "08006", "53300", "53100", "58030", "25006", "25P03"})
    EXPECT_EQ(classify(state), FailureClass::outage) << state;
  for (const char* state : {"40001", "40P01"})
    EXPECT_EQ(classify(state), FailureClass::batch) << state;
  for (const char* state : {"55P03", "57014"})
    EXPECT_EQ(classify(state), FailureClass::timeout) << state;
  for (const char* state : {"22P02", "22001", "42703", "42P01", "42501"})
    EXPECT_EQ(classify(state), FailureClass::deterministic) << state;
  for (const char* state : {"23505", "23503", "23514", "P0001", "54001", "XX000"})
    EXPECT_EQ(classify(state), FailureClass::retryable) << state;
}

}  // namespace
}  // namespace spillway
