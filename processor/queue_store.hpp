// The SQL of the queue: owning lanes, claiming, completing, postponing, burying.
//
// All of it runs on one session, inside transactions that the caller begins and ends. One session,
// one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "effects/sql.hpp"
#include "processor/event_rows.hpp"
#include "processor/lane_marks.hpp"
#include "spillway/event.hpp"

namespace spillway {

// As many as spillway.set_lanes() allows; how many there are, spillway.lane_count() says.
inline constexpr int most_lanes = 64;

// Class keys of the advisory locks, the same for every version: two versions must exclude each
// other.
inline constexpr int lane_lock_class = 0x53504c57;  // (class, lane), held for a batch's transaction
inline constexpr int migrate_lock_class = 0x53504c4d;
inline constexpr int replay_lock_class = 0x53504c50;  // (class, id of the replay)

struct OwnedLanes {
  std::vector<int> lanes;
  std::uint64_t xmin = 0;    // of a snapshot older than any read that follows
  bool waiting_due = false;  // a failed event's next attempt is due (a hint, of any lane)
  bool scheduled_due = false;
  std::chrono::milliseconds armed_left{0};  // for so long inserts notify; not above 0: they do not
  bool ranked = false;         // there are events with a priority (a hint, of any lane)
  std::vector<int> suspected;  // of the lanes, those under suspicion (suspects.hpp)
  int schema_version = 0;
  int lane_count = 0;  // of the database, whether any was owned or not; maybe that of a moment ago
};

// Where claims start, by lane (see lane_marks.hpp).
struct LaneStarts {
  std::vector<std::uint64_t> from;      // everything below is settled
  std::vector<std::uint64_t> fast;      // below may come only what `blockers` have not committed
  std::vector<std::uint64_t> blockers;  // xids; while all of them run, `fast` is where it starts
};

// Whose turn it is when there are events with priorities; what is left is filled with the others.
enum class Turn { highest, common, lowest, oldest };

struct Postponed {
  const ClaimedEvent* claimed = nullptr;
  int attempts = 0;
  std::optional<std::chrono::milliseconds> delay;  // none: held back by an earlier event
  std::string error;
  std::string sqlstate;
  bool suspect = false;
};

struct Buried {
  const ClaimedEvent* claimed = nullptr;
  int attempts = 0;
  std::string error;
  std::string sqlstate;
  bool holds_stream = false;  // until spillway.retry() or discard()
  bool suspect = false;       // it has ended a process
};

class QueueStore {
 public:
  explicit QueueStore(SqlSession& session) : session_(session) {}

  void begin();   // goes with the first statement
  void commit();  // waits for all that was sent
  void rollback();

  // Owns up to `most` of the lanes, tried in the order given, until the transaction ends.
  [[nodiscard]] OwnedLanes own_lanes(std::span<const int> order, std::size_t most);

  // Moves scheduled events whose time has come into the queue.
  void promote_scheduled();

  // Failed events of the lanes that are due, each followed by the events of its stream that wait
  // behind it, in id order.
  [[nodiscard]] std::vector<ClaimedEvent> claim_waiting(std::span<const int> lanes,
                                                        std::size_t limit);

  struct QueueClaim {
    std::vector<ClaimedEvent> events;  // lane by lane, in the order of seq (or by turn)
    bool cut = false;                  // ended by a limit, not by the lanes' ends
    bool fast = false;                 // started from `fast`; not known when there are no events
    bool ranked_left = false;          // the snapshot shows events with priorities
  };

  // At most `limit` events and about `bytes` of payload (always at least one). When it says that
  // there are ranked events, nothing of it may be run: an earlier event of a stream may be among
  // them; claim_ranked() is the way then.
  [[nodiscard]] QueueClaim claim_queue(std::span<const int> lanes, const LaneStarts& starts,
                                       std::size_t limit, std::size_t bytes);
  // own_lanes() and, of the lanes that it gets, claim_queue(), in one round trip. `starts`: of all
  // the lanes in `order`. Claiming changes nothing, so what the lanes call for instead may follow.
  struct Look {
    OwnedLanes owned;
    std::optional<QueueClaim> claim;  // none: there are large events, claim_queue() it is
  };
  [[nodiscard]] Look look(std::span<const int> order, std::size_t most, const LaneStarts& starts,
                          std::size_t limit, std::size_t bytes);
  // With priorities. No events, but ranked_left: what was chosen must wait for what another turn
  // takes.
  [[nodiscard]] QueueClaim claim_ranked(std::span<const int> lanes, const LaneStarts& starts,
                                        std::size_t limit, std::size_t bytes, Turn turn);

  // The xids of the other transactions that may have drawn a seq below the newest one and still
  // run. None: it cannot be told just now.
  [[nodiscard]] std::optional<std::vector<std::uint64_t>> queue_writers();

  // An event of the log, whatever has become of it; takes nothing.
  [[nodiscard]] std::optional<ClaimedEvent> find(std::int64_t event_id);

  // What follows, up to commit(), is sent and shares a round trip with it.

  // Takes queue rows away: their events are done, postponed or buried. `xid` becomes that of the
  // transaction by commit(), if there was anything to take away. SqlError XX000 when a row is not
  // there any more, which would mean that somebody else has handled its event.
  void remove_from_queue(std::span<const ClaimedEvent> claimed, std::uint64_t& xid);
  // Takes rows of done or buried events out of `waiting`.
  void remove_from_waiting(std::span<const std::int64_t> event_ids);
  void postpone(std::span<const Postponed> events);
  void bury(std::span<const Buried> events);
  // Keeps what handlers answered, by event.
  void save_responses(std::span<const std::pair<std::int64_t, json>> responses);
  // Of the streams of events that now wait for a time, or for ever: those behind them wait for
  // them, and no longer for a time of their own. So only the first event of a stream is ever looked
  // at.
  void hold_behind(std::span<const ClaimedEvent* const> firsts);
  // Makes the first event that still waits in each of these streams due now.
  void release_streams(std::span<const std::string> streams);

  // Wake protocol (idle_protocol.hpp): asks for a NOTIFY at the next insert, for `hold` by the
  // server's clock; of an arming that is in force, half of that at least is left or it is
  // prolonged. Returns the bound that the claims' xmin must have reached before no insert can have
  // missed it (0 when it was armed all the time and `bound` does not ask for one: whoever did that
  // sees to it), and how long until something becomes due.
  struct Armed {
    std::uint64_t bound = 0;
    std::optional<std::chrono::milliseconds> next_due;
  };
  [[nodiscard]] Armed arm(std::chrono::milliseconds hold, bool bound = false);
  void disarm();

 private:
  SqlSession& session_;
  int measured_ = 0;  // claims that still measure as they go, because of large events
};

}  // namespace spillway
