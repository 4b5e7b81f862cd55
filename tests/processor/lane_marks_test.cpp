#include "processor/lane_marks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace spillway {
namespace {

TEST(LaneMarks, MovesOnceEveryOlderTransactionHasEnded) {
  LaneMarks marks(1);
  auto claim = marks.begin(0, 100);
  EXPECT_EQ(claim.from, 0u);
  marks.committed(0, claim, {50, false, 120});  // seq 50 was read by the transaction with xid 120

  claim = marks.begin(0, 119);  // something older than 120 still runs
  marks.committed(0, claim, {std::nullopt, false, 0});
  EXPECT_EQ(marks.begin(0, 119).from, 0u);

  claim = marks.begin(0, 120);  // nothing older than 120 runs any more
  EXPECT_EQ(claim.from, 0u);    // but what it left must be read once more from the old place
  marks.committed(0, claim, {40, false, 121});
  EXPECT_EQ(marks.begin(0, 140).from, 51u);
}

TEST(LaneMarks, AReadThatWasCutSettlesOnlyWhatItRead) {
  LaneMarks marks(1);
  marks.committed(0, marks.begin(0, 1), {100, true, 10});
  marks.committed(0, marks.begin(0, 10), {30, true, 11});
  EXPECT_EQ(marks.begin(0, 12).from, 31u);
}

TEST(LaneMarks, ALostConnectionMakesItBeginAnew) {
  LaneMarks marks(1);
  marks.committed(0, marks.begin(0, 1), {100, false, 10});
  marks.committed(0, marks.begin(0, 10), {std::nullopt, false, 11});
  EXPECT_EQ(marks.begin(0, 10).from, 101u);
  const auto before = marks.begin(0, 10);
  marks.forget();
  EXPECT_EQ(marks.begin(0, 10).from, 0u);
  marks.committed(0, before, {200, false, 12});  // a batch that began before
  static_cast<void>(marks.begin(0, 20));
  EXPECT_EQ(marks.begin(0, 20).from, 0u);
}

TEST(LaneMarks, ABatchThatWasRolledBackSettlesNothing) {
  LaneMarks marks(1);
  marks.committed(0, marks.begin(0, 1), {100, false, 10});
  static_cast<void>(marks.begin(0, 50));  // never committed
  static_cast<void>(marks.begin(0, 70));  // never committed
  EXPECT_EQ(marks.begin(0, 90).from, 0u);
}

TEST(LaneMarks, WithoutAnXidNothingIsClaimedToBeSettled) {
  LaneMarks marks(1);
  for (std::uint64_t xmin = 1; xmin < 5; ++xmin)
    marks.committed(0, marks.begin(0, xmin), {100, false, 0});
  EXPECT_EQ(marks.begin(0, 1000).from, 0u);
}

TEST(LaneMarks, ALongTransactionThatWroteNothingDoesNotKeepItFromMoving) {
  LaneMarks marks(1);
  LaneMarks::Clock::time_point now;
  now += std::chrono::hours(1);
  marks.committed(0, marks.begin(0, 5), {100, false, 10}, now);
  EXPECT_FALSE(marks.wants_sample(now));  // the ordinary rule may still do
  now += std::chrono::milliseconds(50);
  EXPECT_TRUE(marks.wants_sample(now));
  EXPECT_FALSE(marks.wants_sample(now)) << "one caller at a time";
  marks.sample(std::vector<std::uint64_t>{7});  // an insert that is about to end
  marks.committed(0, marks.begin(0, 5), {std::nullopt, false, 0}, now);
  EXPECT_EQ(marks.begin(0, 5).fast, 0u);
  marks.sample({});
  auto claim = marks.begin(0, 5);
  EXPECT_EQ(claim.fast, 0u);  // what 7 left must be read first
  marks.committed(0, claim, {std::nullopt, false, 0}, now);
  EXPECT_EQ(marks.begin(0, 5).from, 101u);
}

TEST(LaneMarks, BehindWhatALongWriterMayBringClaimsStartWhileItRuns) {
  LaneMarks marks(1);
  LaneMarks::Clock::time_point now;
  now += std::chrono::hours(1);
  marks.committed(0, marks.begin(0, 5), {100, false, 10}, now);
  marks.sample(std::vector<std::uint64_t>{7, 8});
  marks.sample(std::vector<std::uint64_t>{7, 11});
  marks.committed(0, marks.begin(0, 5), {std::nullopt, false, 0, true}, now);
  auto claim = marks.begin(0, 5);
  EXPECT_EQ(claim.from, 0u);
  EXPECT_EQ(claim.fast, 101u);
  EXPECT_EQ(claim.blockers, std::vector<std::uint64_t>{7});
  // Further on, while 7 runs; a cut read goes only as far as it has read.
  marks.committed(0, claim, {200, false, 20, true}, now);
  marks.sample(std::vector<std::uint64_t>{7});
  marks.sample(std::vector<std::uint64_t>{7});
  marks.committed(0, marks.begin(0, 5), {150, true, 21, true}, now);
  EXPECT_EQ(marks.begin(0, 5).fast, 151u);
  // 7 has ended: one read of everything, and both are the same again.
  claim = marks.begin(0, 30);
  EXPECT_EQ(claim.settled, 201u);
  marks.committed(0, claim, {std::nullopt, false, 0, false}, now);
  claim = marks.begin(0, 30);
  EXPECT_EQ(claim.from, 201u);
  EXPECT_EQ(claim.fast, 201u);
  EXPECT_TRUE(claim.blockers.empty());
}

TEST(LaneMarks, LanesAreIndependent) {
  LaneMarks marks(2);
  for (std::uint64_t xid = 10; xid < 40; xid += 10)
    marks.committed(0, marks.begin(0, xid), {5, false, xid});
  EXPECT_EQ(marks.begin(0, 100).from, 6u);
  EXPECT_EQ(marks.begin(1, 100).from, 0u);
}

// A model of PostgreSQL: transactions get an xid, draw seqs, commit in any order; a claim reads
// what its snapshot shows from the mark on. Nothing may be left behind the mark. As in PostgreSQL,
// a snapshot knows only xids up to the newest that has ended: those that run beyond it do not lower
// its xmin.
TEST(LaneMarks, NothingIsEverLeftBehindInAnyInterleaving) {
  int jumped = 0;
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
    LaneMarks marks(1);
    struct Transaction {
      std::uint64_t xid;
      std::vector<std::uint64_t> seqs;
    };
    std::vector<Transaction> running;
    std::set<std::uint64_t> visible;
    std::uint64_t next_xid = 1;
    std::uint64_t next_seq = 1;
    std::uint64_t newest_ended = 0;
    std::uint64_t committed_rows = 0;
    std::uint64_t handled_rows = 0;
    bool moved = false;
    LaneMarks::Clock::time_point now;
    const auto runs = [&](std::uint64_t xid) {
      return std::any_of(running.begin(), running.end(),
                         [&](const Transaction& transaction) { return transaction.xid == xid; });
    };
    // Not to be ended before the end: a writer that has inserted, or one that has only an xid.
    const std::uint64_t long_lived = seed % 3 == 0 ? 0 : 1 + pick(30);
    const auto ends_now = [&](std::size_t at) { return running[at].xid != long_lived; };
    const auto claim_once = [&](unsigned limit) {
      std::uint64_t xmin = newest_ended + 1;
      for (const auto& transaction : running) xmin = std::min(xmin, transaction.xid);
      now += std::chrono::milliseconds(10 + pick(40));
      if (marks.wants_sample(now)) {
        std::vector<std::uint64_t> writers;
        for (const auto& transaction : running)
          if (!transaction.seqs.empty()) writers.push_back(transaction.xid);
        marks.sample(writers);
      }
      const auto claim = marks.begin(0, xmin);
      // Between the lock's snapshot and the read others may commit.
      const auto at = running.empty() ? 0 : pick(static_cast<unsigned>(running.size()));
      if (!running.empty() && pick(2) == 0 && (pick(50) == 0 || ends_now(at))) {
        for (const auto seq : running[at].seqs) visible.insert(seq), ++committed_rows;
        newest_ended = std::max(newest_ended, running[at].xid);
        running.erase(running.begin() + at);
      }
      const bool fast = std::all_of(claim.blockers.begin(), claim.blockers.end(), runs);
      std::vector<std::uint64_t> read;
      for (auto it = visible.lower_bound(fast ? claim.fast : claim.from);
           it != visible.end() && read.size() < limit; ++it)
        read.push_back(*it);
      const std::uint64_t xid = read.empty() ? 0 : next_xid++;
      // Others begin, insert and end before this one is committed.
      if (pick(3) == 0) running.push_back({next_xid++, {next_seq++}});
      if (xid != 0) newest_ended = std::max(newest_ended, xid);
      if (pick(10) == 0) return;  // rolled back
      for (const auto seq : read) visible.erase(seq), ++handled_rows;
      marks.committed(0, claim,
                      {read.empty() ? std::nullopt : std::optional(read.back()),
                       read.size() == limit, xid, fast || read.empty()},
                      now);
      moved = moved || claim.fast > 1;
      jumped += fast && claim.fast > claim.from && !read.empty() ? 1 : 0;
    };
    for (int step = 0; step < 400; ++step) {
      switch (pick(5)) {
        case 0:
          running.push_back({next_xid++, {}});
          break;
        case 1:
          if (!running.empty())
            running[pick(static_cast<unsigned>(running.size()))].seqs.push_back(next_seq++);
          break;
        case 2:
          if (!running.empty()) {
            const auto at = pick(static_cast<unsigned>(running.size()));
            if (!ends_now(at)) break;
            if (pick(5) != 0)  // else it rolls back
              for (const auto seq : running[at].seqs) visible.insert(seq), ++committed_rows;
            newest_ended = std::max(newest_ended, running[at].xid);
            running.erase(running.begin() + at);
          }
          break;
        default:
          claim_once(1 + pick(6));
          break;
      }
    }
    for (const auto& transaction : running)
      for (const auto seq : transaction.seqs) visible.insert(seq), ++committed_rows;
    running.clear();
    for (int i = 0; i < 2000 && handled_rows < committed_rows; ++i) claim_once(5);
    ASSERT_EQ(handled_rows, committed_rows) << "seed " << seed;
    ASSERT_TRUE(moved) << "the mark never moved, seed " << seed;
  }
  EXPECT_GT(jumped, 1000);  // claims that began behind what a running transaction may still bring
}

}  // namespace
}  // namespace spillway
