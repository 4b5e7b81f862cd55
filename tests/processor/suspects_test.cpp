// The decisions of the search for events that end processes, without a database.
#include "processor/suspects.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <optional>
#include <stdexcept>
#include <thread>

#include "processor/cli/supervise.hpp"
#include "processor/handler_watchdog.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using namespace std::chrono_literals;

SuspectNote note_of(std::int64_t worker, int crashes) {
  SuspectNote note;
  note.event_id = 17;
  note.worker = worker;
  note.crashes = crashes;
  return note;
}

TEST(SuspectNote, of_a_process_that_ended_says_what_it_had_in_hand) {
  EXPECT_EQ(meaning_of(note_of(5, 0), 6), NoteMeans::alone);
  EXPECT_EQ(meaning_of(note_of(5, 1), 6), NoteMeans::attempted);
}

TEST(SuspectNote, without_a_process_is_settled) {
  EXPECT_EQ(meaning_of(note_of(0, 0), 6), NoteMeans::alone);
  EXPECT_EQ(meaning_of(note_of(0, 1), 6), NoteMeans::attempted);
  // Also when the server has been restarted since.
  SuspectNote old = note_of(0, 1);
  old.same_server = false;
  EXPECT_EQ(meaning_of(old, 6), NoteMeans::attempted);
}

TEST(SuspectNote, of_a_process_that_lives_blames_nobody) {
  for (const int crashes : {0, 1}) {
    SuspectNote note = note_of(5, crashes);
    note.worker_lives = true;
    EXPECT_EQ(meaning_of(note, 6), NoteMeans::busy);
    note.recent = false;  // its step was rolled back, and it never came back to it
    EXPECT_EQ(meaning_of(note, 6), NoteMeans::nothing);
  }
}

TEST(SuspectNote, of_our_own_is_of_a_step_that_was_rolled_back) {
  // Whether the registry has noticed that we live does not matter.
  for (const bool lives : {true, false}) {
    SuspectNote note = note_of(5, 1);
    note.worker_lives = lives;
    EXPECT_EQ(meaning_of(note, 5), NoteMeans::nothing);
  }
}

TEST(SuspectNote, says_nothing_when_the_server_was_restarted_meanwhile) {
  SuspectNote note = note_of(5, 1);
  note.same_server = false;
  EXPECT_EQ(meaning_of(note, 6), NoteMeans::nothing);
}

TEST(SuspectNote, becomes_a_sentence) {
  SuspectNote note = note_of(5, 1);
  note.process = "pid 7 on host";
  EXPECT_EQ(error_of(note),
            "the process ended while this event was being handled: pid 7 on host crashed or was "
            "killed, see its log");
  note.error = "was ended by SIGSEGV";
  EXPECT_EQ(error_of(note),
            "the process ended while this event was being handled: pid 7 on host was ended by "
            "SIGSEGV");
  note.worker = 0;
  note.error = "the handler ran longer than --handler-timeout (10 s)";
  EXPECT_EQ(error_of(note), "the handler ran longer than --handler-timeout (10 s)");
}

std::pair<std::size_t, bool> group(std::vector<SuspectCandidate> claim, std::size_t most = 4) {
  const SuspectGroup chosen = choose_group(claim, most);
  return {chosen.size, chosen.attempted};
}
constexpr SuspectCandidate plain{1, false, false};
constexpr SuspectCandidate alone{2, true, false};
constexpr SuspectCandidate attempted{3, false, true};

TEST(SuspectGroup, is_as_large_as_allowed_while_nothing_is_known) {
  EXPECT_EQ(group({}), std::pair(std::size_t{0}, false));
  EXPECT_EQ(group({plain, plain}), std::pair(std::size_t{2}, false));
  EXPECT_EQ(group({plain, plain, plain, plain, plain}), std::pair(std::size_t{4}, false));
}

TEST(SuspectGroup, ends_before_an_event_that_must_run_alone) {
  EXPECT_EQ(group({plain, plain, alone, plain}), std::pair(std::size_t{2}, false));
  EXPECT_EQ(group({alone, plain}), std::pair(std::size_t{1}, false));
  EXPECT_EQ(group({alone, alone}), std::pair(std::size_t{1}, false));
}

TEST(SuspectGroup, fails_an_event_that_has_had_its_attempt_and_nothing_with_it) {
  EXPECT_EQ(group({attempted, plain}), std::pair(std::size_t{1}, true));
  // In order: what is before it in its stream is done first.
  EXPECT_EQ(group({plain, attempted, plain}), std::pair(std::size_t{1}, false));
  // Noted twice, as alone and as attempted.
  EXPECT_EQ(group({{3, true, true}}), std::pair(std::size_t{1}, true));
}

TEST(SuspectsShared, a_step_waits_for_the_batches_and_keeps_others_from_beginning) {
  SuspectsShared shared([] { return 1; });
  SuspectsShared::Turn first = shared.begin_batch();
  SuspectsShared::Turn second = shared.begin_batch();
  EXPECT_FALSE(shared.begin_step(1ms));
  first = {};
  EXPECT_FALSE(shared.begin_step(1ms));
  second = {};
  SuspectsShared::Turn step = shared.begin_step(1ms);
  EXPECT_TRUE(step);
  EXPECT_FALSE(shared.begin_step(1ms));
  std::atomic<bool> begun{false};
  std::jthread batch([&] {
    const auto turn = shared.begin_batch();
    begun = true;
  });
  EXPECT_FALSE(begun);
  step = {};
  EXPECT_TRUE(test::eventually([&] { return begun.load(); }));
}

ClaimedEvent claimed_of(std::int64_t id, const std::string& type) {
  ClaimedEvent claimed;
  claimed.event.id = id;
  claimed.event.type = type;
  claimed.seq = 99;
  return claimed;
}

TEST(HandlerSlot, shows_the_event_in_hand) {
  HandlerSlot slot;
  EXPECT_FALSE(slot.look());
  slot.enter(claimed_of(17, "CommentAdded"));
  const auto first = slot.look();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->event_id, 17);
  EXPECT_EQ(first->seq, 99u);
  EXPECT_EQ(first->type, "CommentAdded");
  slot.leave();
  EXPECT_FALSE(slot.look());
  slot.enter(claimed_of(17, std::string(200, 'x')));  // again: another attempt
  const auto second = slot.look();
  ASSERT_TRUE(second);
  EXPECT_NE(second->count, first->count);
  EXPECT_EQ(second->type, std::string(64, 'x'));
}

TEST(HandlerSlot, is_left_when_the_handler_throws) {
  HandlerSlot slot;
  EXPECT_THROW(timed(&slot, claimed_of(1, "A"), []() -> int { throw std::runtime_error("no"); }),
               std::runtime_error);
  EXPECT_FALSE(slot.look());
  EXPECT_EQ(timed(nullptr, claimed_of(1, "A"), [] { return 7; }), 7);
}

TEST(HangJudge, wants_the_same_event_for_the_whole_timeout_and_several_looks) {
  HangJudge judge;
  HandlerSlot::Seen seen;
  seen.count = 1;
  HangJudge::time_point now{};
  const auto look = [&](std::chrono::milliseconds later) {
    now += later;
    return judge.hangs(seen, now, 800ms);
  };
  EXPECT_FALSE(look(100ms));
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(look(100ms)) << i;
  EXPECT_TRUE(look(100ms));
  seen.count = 3;  // the next event
  EXPECT_FALSE(look(100ms));
  EXPECT_FALSE(look(10'000ms));  // the process was stopped in between: once is not enough
  for (int i = 0; i < 6; ++i) EXPECT_FALSE(look(1ms)) << i;
  EXPECT_TRUE(look(1ms));
}

TEST(HangJudge, begins_anew_when_nothing_is_in_hand) {
  HangJudge judge;
  HandlerSlot::Seen seen;
  seen.count = 1;
  HangJudge::time_point now{};
  for (int i = 0; i < 100; ++i) {
    now += 100ms;
    EXPECT_FALSE(judge.hangs(i % 2 == 0 ? std::optional(seen) : std::nullopt, now, 100ms));
  }
}

using cli::ChildEnd;

TEST(Supervisor, restarts_what_ended_uncleanly_and_nothing_else) {
  EXPECT_TRUE(cli::worth_a_restart({1, true, SIGSEGV}, false));
  EXPECT_TRUE(cli::worth_a_restart({1, false, 1}, false));
  EXPECT_TRUE(cli::worth_a_restart({1, false, 7}, false));  // a handler that called exit
  for (const int code : {0, 2, 4}) EXPECT_FALSE(cli::worth_a_restart({1, false, code}, true));
  // A database that goes away is waited for; one that was never there may be a wrong URL.
  EXPECT_TRUE(cli::worth_a_restart({1, false, 3}, true));
  EXPECT_FALSE(cli::worth_a_restart({1, false, 3}, false));
}

TEST(Supervisor, says_how_a_worker_ended) {
  EXPECT_EQ(cli::describe({1, true, SIGSEGV}), "was ended by SIGSEGV");
  EXPECT_EQ(cli::describe({1, false, 1}), "ended with exit code 1");
  EXPECT_EQ(cli::exit_code_of({1, true, SIGKILL}), 137);
  EXPECT_EQ(cli::exit_code_of({1, false, 3}), 3);
}

TEST(Supervisor, waits_longer_each_time_until_a_worker_stays) {
  cli::RestartDelay delay;
  EXPECT_EQ(delay.next(1s), 100ms);
  EXPECT_EQ(delay.next(1s), 200ms);
  for (int i = 0; i < 10; ++i) static_cast<void>(delay.next(59s));
  EXPECT_EQ(delay.next(1s), 10s);
  EXPECT_EQ(delay.next(60s), 100ms);
}

}  // namespace
}  // namespace spillway
