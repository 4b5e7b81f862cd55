// Where in each lane a claim may start. After deletes a lane's beginning is dead index entries,
// which cannot be cleaned while any long transaction is open; walking them for each claim costs a
// peer of this design half its speed within seconds. So claims start behind what is known to be
// settled.
//
// The rule: seq is drawn in the trigger, by when its transaction has an xid. A batch that has read
// seq M gets its own xid after that read; every transaction that drew a lower seq had its xid
// before. So once a snapshot's xmin has reached the batch's xid, they have all ended, and a read
// after that snapshot has seen all that is left below M. (The reading snapshot's xmax would not do
// as the bound: it is the newest xid that has *ended*, plus one, and transactions with higher xids
// may run.) Only what has been read, and whose removal was committed, is skipped.
//
// That rule stands still while any transaction with an xid is open, whoever's it is. Then the
// transactions are looked at one by one. Who has drawn a seq holds a lock on the queue until its
// end. Those that held one after M had been read (the first sample) and still do at a second sample
// are the `blockers`: all others have ended, and a read after that has seen what they left. From
// then on only blockers can bring anything below M, and a claim starts behind M as long as its own
// snapshot says that all of them run (`fast`); as soon as one has ended it starts at `from` again.
//
// Thread-safe; one per process, shared by its runners.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace spillway {

class LaneMarks {
 public:
  using Clock = std::chrono::steady_clock;

  explicit LaneMarks(std::size_t lanes) : marks_(lanes) {}

  struct Claim {
    std::uint64_t from = 0;     // start reading at this seq
    std::uint64_t fast = 0;     // or at this one (>= from) while all `blockers` run
    std::uint64_t settled = 0;  // all below is settled once this claim is committed; 0: nothing new
    std::uint64_t ripe = 0;     // the same, but for what `watched` may bring; 0: nothing new
    std::vector<std::uint64_t> blockers;  // xids
    std::vector<std::uint64_t> watched;   // xids
    std::uint64_t era = 0;                // number of forget() calls before it
  };

  // Before the read. `xmin`: of a snapshot that was taken before the read.
  [[nodiscard]] Claim begin(std::size_t lane, std::uint64_t xmin);

  struct Read {
    std::optional<std::uint64_t> last;  // the highest seq read, none when nothing was
    bool cut = false;                   // ended by its limit
    std::uint64_t xid = 0;              // of this transaction, given after the read; 0: not known
    bool fast = false;                  // it started at `fast`, or that is not known
  };
  // After COMMIT of the transaction that took everything it read. `now`: for wants_sample().
  void committed(std::size_t lane, const Claim& claim, const Read& read,
                 Clock::time_point now = Clock::now());

  // Has the first rule stood still for so long that writers should be sampled? At most one caller
  // in a while is told so.
  [[nodiscard]] bool wants_sample(Clock::time_point now = Clock::now());
  // The xids of all transactions (but this session's own) that may have drawn a seq and still run.
  // For reads that begin after this call.
  void sample(std::span<const std::uint64_t> writers);

  // After a connection was lost: a server that crashed with synchronous_commit off, or a standby
  // that took over, may draw sequences and transaction ids a second time, below what was settled.
  void forget();

 private:
  struct Mark {
    std::uint64_t from = 0;
    std::uint64_t fast = 0;
    std::vector<std::uint64_t> blockers;
    std::uint64_t candidate = 0;  // becomes `from` once xmin has reached `bound`; 0: none
    std::uint64_t bound = 0;
    Clock::time_point since;  // the candidate is known
    int samples = 0;          // taken since then
    std::vector<std::uint64_t> watched;
  };
  std::mutex mutex_;
  std::vector<Mark> marks_;
  Clock::time_point last_sample_;
  std::uint64_t era_ = 0;
};

}  // namespace spillway
