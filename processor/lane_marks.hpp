// Where in each lane a claim may start. After deletes a lane's beginning is dead index entries, which
// cannot be cleaned while any long transaction is open; walking them for each claim costs a peer of
// this design half its speed within seconds. So claims start behind what is known to be settled.
//
// The rule: seq is drawn in the trigger, by when its transaction has an xid. Having seen seq M, every
// transaction that holds a lower seq is older than the next snapshot's xmax; once a snapshot's xmin
// has passed that xmax, they have all ended, and a read in a snapshot at least that new has seen all
// that is left below M. Only what has been read, and whose removal was committed, is skipped.
//
// Thread-safe; one per process, shared by its runners.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace spillway {

class LaneMarks {
 public:
  explicit LaneMarks(std::size_t lanes) : marks_(lanes) {}

  struct Claim {
    std::uint64_t from = 0;     // start reading at this seq
    std::uint64_t settled = 0;  // all below is settled once this claim is committed; 0: nothing new
  };

  // Before the read, with a snapshot that was taken before the read.
  [[nodiscard]] Claim begin(std::size_t lane, std::uint64_t xmin, std::uint64_t xmax);

  // After COMMIT of the transaction that took everything it read. `last`: the highest seq read, none
  // when nothing was; `cut`: the read was ended by its limit.
  void committed(std::size_t lane, const Claim& claim, std::optional<std::uint64_t> last, bool cut);

 private:
  struct Mark {
    std::uint64_t from = 0;
    std::uint64_t seen = 0;          // highest seq whose removal is committed
    std::uint64_t candidate = 0;     // becomes `from` once xmin has passed `bound`; 0: none
    std::uint64_t bound = 0;
  };
  std::mutex mutex_;
  std::vector<Mark> marks_;
};

}  // namespace spillway
