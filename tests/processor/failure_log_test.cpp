// How many lines a flood of failures makes.
#include "processor/failure_log.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace spillway {
namespace {

using std::chrono::seconds;

class LineLimitTest : public testing::Test {
 protected:
  std::size_t taken(const std::string& key, int times) {
    std::size_t count = 0;
    for (int i = 0; i < times; ++i)
      if (limit.take(key, now)) ++count;
    return count;
  }

  LineLimit limit{10, seconds(10)};
  LineLimit::time_point now{seconds(1000)};
};

TEST_F(LineLimitTest, LetsSoManyThroughInAStretchOfTimeAndCountsTheRest) {
  EXPECT_EQ(taken("A", 4322), 10u);
  EXPECT_EQ(taken("B", 3), 3u);
  EXPECT_TRUE(limit.over(now + seconds(9)).empty());
  const auto left_out = limit.over(now + seconds(10));
  ASSERT_EQ(left_out.size(), 1u);
  EXPECT_EQ(left_out[0].key, "A");
  EXPECT_EQ(left_out[0].lines, 4312u);
  now += seconds(10);
  EXPECT_EQ(taken("A", 11), 10u);  // begun anew
}

TEST_F(LineLimitTest, HasAnEndToItsKeys) {
  for (int i = 0; i < 1000; ++i) static_cast<void>(limit.take("type " + std::to_string(i), now));
  std::size_t later = taken("one more", 100);
  EXPECT_EQ(later, 0u);  // it shares a line with all the others
  const auto left_out = limit.all();
  ASSERT_EQ(left_out.size(), 1u);
  EXPECT_EQ(left_out[0].key, "other events");
  EXPECT_EQ(left_out[0].lines, 1000 - LineLimit::most_keys + 100 - 10);
}

TEST(FailureLog, SaysInTheEndHowManyMoreThereWere) {
  std::vector<std::string> lines;
  {
    FailureLog log([&](const LogLine& line) { lines.push_back(line.message); });
    for (int i = 0; i < 1000; ++i)
      log.write("dead letters of type A", {LogLevel::warn, "dead letter " + std::to_string(i)});
  }
  ASSERT_EQ(lines.size(), 11u);
  EXPECT_EQ(lines[9], "dead letter 9");
  EXPECT_EQ(lines[10], "dead letters of type A: … and 990 more in the last 10 s");
}

}  // namespace
}  // namespace spillway
