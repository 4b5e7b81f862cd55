// When a server that stops closes how many of its streams: few at once, many evenly, all in time.
#include <gtest/gtest.h>

#include "sse/drain_pace.hpp"

namespace spillway::sse::test {
namespace {

using namespace std::chrono_literals;

TEST(DrainPace, FewStreamsCloseAtOnce) {
  for (const std::size_t streams : {std::size_t{0}, std::size_t{1}, DrainPace::kAtOnce}) {
    const DrainPace pace(streams, 2000, 7s);
    EXPECT_EQ(pace.due(0ms), streams);
    EXPECT_EQ(pace.spread(), 0ms);
  }
}

TEST(DrainPace, ManyCloseAtTheRateOneAfterTheOther) {
  const DrainPace pace(DrainPace::kAtOnce + 4000, 2000, 7s);
  EXPECT_EQ(pace.spread(), 2s);
  EXPECT_EQ(pace.due(0ms), DrainPace::kAtOnce);
  std::size_t before = pace.due(0ms);
  for (auto elapsed = 10ms; elapsed <= 2s; elapsed += 10ms) {
    const std::size_t due = pace.due(elapsed);
    EXPECT_GE(due, before + 19) << elapsed.count();  // 20, but for the rounding
    EXPECT_LE(due, before + 21) << elapsed.count();
    before = due;
  }
  EXPECT_EQ(before, DrainPace::kAtOnce + 4000);
  EXPECT_EQ(pace.due(1h), DrainPace::kAtOnce + 4000);
}

TEST(DrainPace, MoreThanTheRateCanCloseGoFasterAndAreDoneInTime) {
  const DrainPace pace(15000, 1000, 5s);
  EXPECT_EQ(pace.spread(), 5s);
  EXPECT_NEAR(static_cast<double>(pace.due(2500ms)), 7525, 2);
  EXPECT_LT(pace.due(4999ms), 15000u);
  EXPECT_EQ(pace.due(5s), 15000u);
}

TEST(DrainPace, WithoutTimeAllCloseAtOnce) {
  EXPECT_EQ(DrainPace(15000, 1000, 0ms).due(0ms), 15000u);
  EXPECT_EQ(DrainPace(15000, 0, -5ms).due(0ms), 15000u);
}

TEST(DrainPace, ARateOfNothingStillEnds) {
  EXPECT_EQ(DrainPace(100, 0, 1s).due(1s), 100u);
}

TEST(DrainPace, ClocksThatGoBackCloseNobodyTwice) {
  EXPECT_EQ(DrainPace(1000, 100, 1s).due(-1s), DrainPace::kAtOnce);
}

}  // namespace
}  // namespace spillway::sse::test
