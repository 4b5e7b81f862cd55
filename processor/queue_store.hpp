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
#include "processor/lane_marks.hpp"
#include "spillway/event.hpp"

namespace spillway {

inline constexpr int lane_count = 8;  // spillway.lane_of

// Class keys of the advisory locks, the same for every version: two versions must exclude each
// other.
inline constexpr int lane_lock_class = 0x53504c57;  // (class, lane), held for a batch's transaction
inline constexpr int migrate_lock_class = 0x53504c4d;

struct OwnedLanes {
  std::vector<int> lanes;
  std::uint64_t xmin = 0;    // of a snapshot older than any read that follows
  bool waiting_due = false;  // a failed event's next attempt is due (a hint, of any lane)
  bool scheduled_due = false;
  std::vector<int> suspected;  // of the lanes, those under suspicion (suspects.hpp)
  bool armed = false;          // inserts notify
};

struct ClaimedEvent {
  Event event;  // payload and context are parsed
  int lane = 0;
  std::uint64_t seq = 0;  // 0: claimed from `waiting`
  std::string row;        // where the queue row is (ctid)
  int attempts = 0;       // failed ones so far
  std::optional<int> max_attempts;
  bool held = false;     // another event of its stream waits: it must not run
  bool suspect = false;  // it may have ended a process: it must run alone
  std::string problem;   // payload or context that no handler can be given; else empty
};

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
};

class QueueStore {
 public:
  explicit QueueStore(SqlSession& session) : session_(session) {}

  void begin();
  void commit();
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
    std::vector<ClaimedEvent> events;  // lane by lane, in the order of seq
    bool cut = false;                  // ended by a limit, not by the lanes' ends
  };

  // `from`: per lane. At most `limit` events and about `bytes` of payload (always at least one).
  [[nodiscard]] QueueClaim claim_queue(std::span<const int> lanes,
                                       std::span<const std::uint64_t> from, std::size_t limit,
                                       std::size_t bytes);

  // An event of the log, whatever has become of it; takes nothing.
  [[nodiscard]] std::optional<ClaimedEvent> find(std::int64_t event_id);

  // Takes queue rows away: their events are done, postponed or buried. Returns the transaction's
  // xid; 0 when there was nothing to take away. Throws SqlError XX000 when a row is not there any
  // more, which would mean that somebody else has handled its event: the batch must not be
  // committed.
  std::uint64_t remove_from_queue(std::span<const ClaimedEvent> claimed);
  // Takes rows of done or buried events out of `waiting`.
  void remove_from_waiting(std::span<const std::int64_t> event_ids);
  void postpone(std::span<const Postponed> events);
  void bury(std::span<const Buried> events);
  // Keeps what handlers answered, by event.
  void save_responses(std::span<const std::pair<std::int64_t, json>> responses);
  // Makes the first event that still waits in each of these streams due now.
  void release_streams(std::span<const std::string> streams);

  // Wake protocol (docs/architecture.md): asks for a NOTIFY at the next insert. Returns the bound
  // that the claims' xmin must have reached before no insert can have missed it (0 when it was
  // armed already: whoever did that sees to it), and how long until something becomes due.
  struct Armed {
    std::uint64_t bound = 0;
    std::optional<std::chrono::milliseconds> next_due;
  };
  [[nodiscard]] Armed arm();
  void disarm();

 private:
  SqlSession& session_;
};

}  // namespace spillway
