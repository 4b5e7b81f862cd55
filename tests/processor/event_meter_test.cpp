// What runners count, and how many types have a line of their own.
#include "processor/event_meter.hpp"

#include <gtest/gtest.h>

#include <string>

namespace spillway {
namespace {

std::uint64_t of(const EventCounts& counts, const std::string& type, Outcome outcome) {
  const auto found = counts.types.find(type);
  return found == counts.types.end() ? 0
                                     : found->second.outcomes[static_cast<std::size_t>(outcome)];
}

TEST(EventMeter, AddsUpWhatItsRunnersCounted) {
  EventMeter meter;
  RunnerMeter& first = meter.add_runner();
  RunnerMeter& second = meter.add_runner();
  first.of("A", true).outcomes.add(Outcome::done, 3);
  second.of("A", true).outcomes.add(Outcome::done, 4);
  second.of("A", true).outcomes.add(Outcome::dead);
  second.of("B", true).handler_time.observe(20'000);
  first.batch_events.observe(7);
  first.held.add(2);
  second.held.add(3);
  const EventCounts counts = meter.snapshot();
  EXPECT_EQ(of(counts, "A", Outcome::done), 7u);
  EXPECT_EQ(of(counts, "A", Outcome::dead), 1u);
  EXPECT_EQ(counts.outcome(Outcome::done), 7u);
  EXPECT_EQ(counts.types.at("B").handler_time.buckets[1], 1u);
  EXPECT_EQ(counts.batch_events.observations(), 1u);
  EXPECT_EQ(counts.held, 5u);
}

TEST(EventMeter, ATypeThatHasAMeterKeepsIt) {
  EventMeter meter;
  RunnerMeter& runner = meter.add_runner();
  EXPECT_EQ(&runner.of("A", true), &runner.of("A", true));
  EXPECT_NE(&runner.of("A", true), &runner.of("B", true));
}

TEST(EventMeter, MoreTypesThanThereIsRoomForShareALine) {
  EventMeter meter;
  RunnerMeter& runner = meter.add_runner();
  for (std::size_t i = 0; i < EventMeter::most_named + 3; ++i)
    runner.of("Named" + std::to_string(i), true).outcomes.add(Outcome::done);
  for (std::size_t i = 0; i < EventMeter::most_unnamed + 4; ++i)
    runner.of("Made up " + std::to_string(i), false).outcomes.add(Outcome::unhandled);
  runner.of(std::string(EventMeter::longest_name + 1, 'x'), true).outcomes.add(Outcome::done);
  const EventCounts counts = meter.snapshot();
  EXPECT_EQ(counts.types.size(), EventMeter::most_named + EventMeter::most_unnamed + 1);
  EXPECT_EQ(of(counts, "other", Outcome::done), 4u);
  EXPECT_EQ(of(counts, "other", Outcome::unhandled), 4u);
  EXPECT_EQ(of(counts, "Named0", Outcome::done), 1u);
}

TEST(EventMeter, NamesThatNoHandlerHasDoNotTakeTheRoomOfThoseThatHaveOne) {
  EventMeter meter;
  RunnerMeter& runner = meter.add_runner();
  for (int i = 0; i < 1000; ++i) static_cast<void>(runner.of("x" + std::to_string(i), false));
  runner.of("CommentAdded", true).outcomes.add(Outcome::done);
  EXPECT_EQ(of(meter.snapshot(), "CommentAdded", Outcome::done), 1u);
}

}  // namespace
}  // namespace spillway
