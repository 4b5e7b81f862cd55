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
    const auto claim_once = [&](unsigned limit) {
      std::uint64_t xmin = newest_ended + 1;
      for (const auto& transaction : running) xmin = std::min(xmin, transaction.xid);
      const auto claim = marks.begin(0, xmin);
      // Between the lock's snapshot and the read others may commit.
      if (!running.empty() && pick(2) == 0) {
        const auto at = pick(static_cast<unsigned>(running.size()));
        for (const auto seq : running[at].seqs) visible.insert(seq), ++committed_rows;
        newest_ended = std::max(newest_ended, running[at].xid);
        running.erase(running.begin() + at);
      }
      std::vector<std::uint64_t> read;
      for (auto it = visible.lower_bound(claim.from); it != visible.end() && read.size() < limit;
           ++it)
        read.push_back(*it);
      const std::uint64_t xid = read.empty() ? 0 : next_xid++;
      // Others begin, insert and end before this one is committed.
      if (pick(3) == 0) running.push_back({next_xid++, {next_seq++}});
      if (xid != 0) newest_ended = std::max(newest_ended, xid);
      if (pick(10) == 0) return;  // rolled back
      for (const auto seq : read) visible.erase(seq), ++handled_rows;
      marks.committed(
          0, claim,
          {read.empty() ? std::nullopt : std::optional(read.back()), read.size() == limit, xid});
      moved = moved || claim.from > 1;
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
}

}  // namespace
}  // namespace spillway
