#include "processor/idle_protocol.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <string>

#include "tests/processor/idle_model.hpp"

namespace spillway::test {
namespace {

using std::chrono::milliseconds;
using Step = IdleProtocol::Step;

IdleProtocol::Look nothing(std::uint64_t xmin, bool all_lanes = true) {
  return {0, all_lanes, true, xmin};
}
IdleProtocol::Look found(std::size_t events) {
  return {events, false, true, 0};
}

TEST(IdleProtocol, ArmsLooksOnceMoreAndSleeps) {
  IdleProtocol idle({});
  EXPECT_TRUE(idle.needs_bound());
  EXPECT_EQ(idle.after(nothing(5)).step, Step::arm);
  idle.armed(7, std::nullopt);
  EXPECT_FALSE(idle.needs_bound());
  EXPECT_EQ(idle.after(nothing(6)).step, Step::pause) << "somebody older than the arming runs";
  EXPECT_EQ(idle.after(nothing(7, false)).step, Step::pause) << "a sibling has a lane";
  const IdleProtocol::Next last = idle.after(nothing(7));
  EXPECT_EQ(last.step, Step::sleep);
  EXPECT_EQ(last.most, milliseconds(1000));
  EXPECT_EQ(idle.after(nothing(9)).step, Step::arm) << "anew at every poll";
}

TEST(IdleProtocol, KeepsTheBoundWhateverIsFound) {
  IdleProtocol idle({});
  static_cast<void>(idle.after(nothing(5)));
  idle.armed(7, std::nullopt);
  EXPECT_EQ(idle.after(found(1)).step, Step::look);
  EXPECT_FALSE(idle.sweep());
  EXPECT_EQ(idle.after(nothing(6)).step, Step::look) << "only its own share was empty";
  EXPECT_TRUE(idle.sweep());
  EXPECT_EQ(idle.after(nothing(6)).step, Step::arm);
  idle.armed(0, std::nullopt);
  EXPECT_EQ(idle.after(nothing(6)).step, Step::pause);
  EXPECT_EQ(idle.after(nothing(7)).step, Step::sleep);
}

TEST(IdleProtocol, DisarmsWhenThereIsEnoughToDo) {
  IdleProtocol idle({});
  EXPECT_EQ(idle.after(found(64)).step, Step::disarm);
  EXPECT_TRUE(idle.needs_bound()) << "somebody may prolong an arming that is no more";
  EXPECT_NE(idle.after({64, true, false, 0}).step, Step::disarm) << "it is disarmed already";
  IdleProtocol second({});
  for (int look = 1; look < 4; ++look) EXPECT_EQ(second.after(found(1)).step, Step::look);
  EXPECT_EQ(second.after(found(1)).step, Step::disarm) << "the fourth in a row";
}

TEST(IdleProtocol, SleepsAfterOneLookThatFoundAndFinishedAll) {
  IdleProtocol idle({});
  static_cast<void>(idle.after(nothing(5)));
  idle.armed(7, milliseconds(400));
  IdleProtocol::Look one{1, true, true, 6};
  one.lasting = one.complete = true;
  EXPECT_EQ(idle.after(one).step, Step::look) << "somebody older than the arming runs";
  one.xmin = 7;
  for (int event = 0; event < 100; ++event) {
    const IdleProtocol::Next next = idle.after(one);
    ASSERT_EQ(next.step, Step::sleep) << event;
    EXPECT_EQ(next.most, milliseconds(401));
    EXPECT_TRUE(idle.sweep());
  }
  for (auto part : {&IdleProtocol::Look::lasting, &IdleProtocol::Look::complete,
                    &IdleProtocol::Look::all_lanes}) {
    IdleProtocol::Look less = one;
    less.*part = false;
    EXPECT_EQ(IdleProtocol(idle).after(less).step, Step::look);
  }
  IdleProtocol::Look heavy = one;
  heavy.heavy = true;
  EXPECT_EQ(IdleProtocol(idle).after(heavy).step, Step::look);
  EXPECT_EQ(IdleProtocol({}).after(one).step, Step::look) << "a new session owes a bound";
}

// What a lone writer makes of it, however long it goes on: one event, and the next only after its
// frame has come.
TEST(IdleProtocol, ALoneWriterNeverMakesItLinger) {
  IdleProtocol idle({});
  for (int event = 0; event < 100; ++event) {
    EXPECT_EQ(idle.after(found(1)).step, Step::look);
    EXPECT_EQ(idle.after(nothing(9)).step, Step::look) << "only its own share was empty";
    EXPECT_EQ(idle.after(nothing(9)).step, Step::arm);
    idle.armed(event == 0 ? 9 : 0, std::nullopt);
    EXPECT_EQ(idle.after(nothing(9)).step, Step::sleep);
  }
}

// Disarmed, too.
IdleProtocol in_a_flow() {
  IdleProtocol idle({});
  EXPECT_EQ(idle.after(found(5)).step, Step::look);
  EXPECT_EQ(idle.after(found(5)).step, Step::disarm);
  return idle;
}
IdleProtocol::Look disarmed(std::size_t events) {
  return {events, true, false, 9};
}

TEST(IdleProtocol, LingersInAFlowUntilItIsOver) {
  IdleProtocol idle = in_a_flow();
  for (const std::size_t events : {0, 1, 0, 7, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}) {
    const IdleProtocol::Next next = idle.after(disarmed(events));
    EXPECT_EQ(next.step, Step::linger);
    EXPECT_TRUE(next.promise);
    EXPECT_EQ(next.most, milliseconds(2));
    EXPECT_TRUE(idle.sweep()) << "every lane, since its siblings rely on it";
  }
  const IdleProtocol::Next last = idle.after(disarmed(0));
  EXPECT_EQ(last.step, Step::arm) << "sixteen in a row without several";
  EXPECT_FALSE(last.promise);
}

// While inserts notify, their commits come one after the other.
TEST(IdleProtocol, NoticesAFlowThatComesMostlyOneByOne) {
  IdleProtocol idle({});
  for (int round = 0; round < 100; ++round) {
    for (const std::size_t events : {1, 0, 1, 1, 0, 2}) {
      if (idle.after({events, true, true, 9}).step == Step::disarm && events == 2) return;
    }
  }
  ADD_FAILURE() << "never noticed";
}

TEST(IdleProtocol, DoesNotLingerWhereOneRunnerIsNotEnough) {
  IdleProtocol idle = in_a_flow();
  IdleProtocol::Look heavy = disarmed(500);
  heavy.heavy = true;
  const IdleProtocol::Next next = idle.after(heavy);
  EXPECT_EQ(next.step, Step::look);
  EXPECT_TRUE(next.promise) << "siblings that find nothing need not arm";
  EXPECT_FALSE(idle.sweep()) << "its siblings are called";
}

TEST(IdleProtocol, ReliesOnASiblingThatLingers) {
  IdleProtocol idle({});
  IdleProtocol::Look promised = disarmed(0);
  promised.promised = true;
  EXPECT_EQ(idle.after(promised).step, Step::rely);
  IdleProtocol flowing = in_a_flow();
  promised.taken = 3;
  EXPECT_EQ(flowing.after(promised).step, Step::rely) << "one lingers, not two";
  EXPECT_EQ(flowing.after(disarmed(0)).step, Step::look) << "its share, now that nobody lingers";
  EXPECT_EQ(flowing.after(disarmed(0)).step, Step::arm) << "the flow was the other one's";
}

TEST(IdleProtocol, PausesGrowUpToThePollAndThenItArmsAnew) {
  IdleProtocol::Options options;
  options.fallback_poll = milliseconds(40);
  IdleProtocol idle(options);
  static_cast<void>(idle.after(nothing(5)));
  idle.armed(7, std::nullopt);
  milliseconds last{0};
  while (last < milliseconds(40)) {
    IdleProtocol::Next next = idle.after(nothing(6));
    if (next.step == Step::arm) {
      idle.armed(0, std::nullopt);
      next = idle.after(nothing(6));
    }
    ASSERT_EQ(next.step, Step::pause);
    ASSERT_GT(next.most, last);
    last = next.most;
  }
  EXPECT_EQ(idle.after(nothing(6)).step, Step::arm);
}

TEST(IdleProtocol, SleepsNoLongerThanUntilSomethingIsDue) {
  IdleProtocol idle({});
  static_cast<void>(idle.after(nothing(5)));
  idle.armed(5, milliseconds(30));
  EXPECT_EQ(idle.after(nothing(5)).most, milliseconds(31));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t interleavings = 50'000;
#else
constexpr std::uint64_t interleavings = 1'000'000;
#endif

struct Tally {
  std::uint64_t runs = 0;
  std::uint64_t armings = 0;
  std::uint64_t sleeps = 0;
  std::uint64_t events = 0;
  std::uint64_t lingered = 0;
  std::uint64_t relied = 0;
  std::uint64_t rested = 0;
  std::string trouble;
};

Tally explore(Mistake mistake, std::size_t lanes = 3, std::uint64_t most = interleavings) {
  Tally tally;
  while (tally.runs < most && tally.trouble.empty()) {
    const Interleaving result = interleave(++tally.runs, mistake, lanes);
    const std::string& trouble = result.trouble;
    if (!trouble.empty())
      tally.trouble = "interleaving " + std::to_string(tally.runs) + ": " + trouble;
    tally.armings += static_cast<std::uint64_t>(result.armings);
    tally.sleeps += static_cast<std::uint64_t>(result.sleeps);
    tally.events += static_cast<std::uint64_t>(result.events);
    tally.lingered += static_cast<std::uint64_t>(result.lingered);
    tally.relied += static_cast<std::uint64_t>(result.relied);
    tally.rested += static_cast<std::uint64_t>(result.rested);
  }
  return tally;
}

class Mistaken : public testing::TestWithParam<Mistake> {};

TEST_P(Mistaken, IsNoticed) {
  if (interleavings < 1'000'000) GTEST_SKIP() << "too few interleavings under a sanitizer";
  const Tally tally = explore(GetParam());
  EXPECT_NE(tally.trouble, "");
  std::cout << "[   model  ] " << tally.trouble << std::endl;
}
INSTANTIATE_TEST_SUITE_P(
    IdleProtocol, Mistaken,
    testing::Values(Mistake::no_bound, Mistake::bound_lost_when_found,
                    Mistake::bound_lost_with_the_session, Mistake::part_of_the_lanes_counts,
                    Mistake::bound_before_arming, Mistake::signals_read_too_late,
                    Mistake::disarmed_owes_nothing, Mistake::clock_read_too_late,
                    Mistake::prolonged_unasked, Mistake::stale_promise, Mistake::lingers_and_sleeps,
                    Mistake::sleeps_after_a_cut_look, Mistake::sleeps_after_any_arming));

TEST(IdleProtocol, NoEventWaitsForThePollInAMillionInterleavings) {
  const Tally tally = explore(Mistake::none);
  EXPECT_EQ(tally.trouble, "");
  std::cout << "[   model  ] " << tally.runs << " interleavings: " << tally.events << " events, "
            << tally.armings << " armings, " << tally.sleeps << " times asleep, " << tally.lingered
            << " times lingered, " << tally.relied << " times relied on that, " << tally.rested
            << " times asleep after what they found" << std::endl;
  EXPECT_GT(tally.events, interleavings);
  EXPECT_GT(tally.armings, interleavings);
  EXPECT_GT(tally.lingered, interleavings / 10);
  EXPECT_GT(tally.relied, interleavings / 100);
  EXPECT_GT(tally.rested, interleavings / 100);
}

// With one lane all runners but one find nothing; with many, none has them all for long.
TEST(IdleProtocol, NoEventWaitsForThePollWithOneLaneOrSixteen) {
  for (const std::size_t lanes : {1u, 16u}) {
    const Tally tally = explore(Mistake::none, lanes, interleavings / 4);
    EXPECT_EQ(tally.trouble, "") << lanes << " lanes";
    EXPECT_GT(tally.events, interleavings / 4);
    EXPECT_NE(explore(Mistake::no_bound, lanes).trouble, "") << lanes << " lanes";
  }
}

}  // namespace
}  // namespace spillway::test
