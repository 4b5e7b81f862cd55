// The search for an event whose handler ends the process: a crash, an endless allocation, kill -9.
//
// When a process ended uncleanly, every lane is under suspicion as far as its batch can have
// reached. In such a lane events run in steps of two transactions. The first writes down which
// events are about to run, and commits: that is the count before the attempt. The second runs them
// and takes the note away with their completion. A note whose process is gone tells what it had in
// hand: one of several runs alone from then on; one that was alone has had its attempt.
//
// The decisions are pure. SuspectsShared is thread-safe, one per process; the rest belongs to one
// session and one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "processor/lane_marks.hpp"
#include "processor/maintenance.hpp"
#include "processor/queue_store.hpp"

namespace spillway {

// Events that run together under suspicion: the fewer, the longer a suspicion lasts that was none;
// the more, the more have to run alone once one of them has ended the process.
inline constexpr std::size_t most_suspects = 100;

// A row of spillway.suspects.
struct SuspectNote {
  std::int64_t event_id = 0;
  int crashes = 0;          // 0: with others; 1: alone, or seen to hang
  std::int64_t worker = 0;  // who has it in hand; 0: nobody, the matter is settled
  bool worker_lives = false;
  bool same_server = true;  // the server has not been restarted since
  bool recent = true;       // written within half a minute
  std::string process;
  std::string error;
};

enum class NoteMeans {
  busy,      // somebody is at it: leave the lane to them
  nothing,   // its process did not end: the note is void
  alone,     // it was there when a process ended: run it alone
  attempted  // its attempt ended the process
};

// `own`: the id of this process, of which no runner is at a step.
[[nodiscard]] NoteMeans meaning_of(const SuspectNote& note, std::int64_t own);

// What a failed attempt says, behind the event's name.
[[nodiscard]] std::string error_of(const SuspectNote& note);

struct SuspectCandidate {  // an event of the claim
  std::int64_t event_id = 0;
  bool alone = false;
  bool attempted = false;
};

// How many events, from the claim's beginning, run together; or fail without running, if the first
// of them has had its attempt. 0 for an empty claim.
struct SuspectGroup {
  std::size_t size = 0;
  bool attempted = false;
};
[[nodiscard]] SuspectGroup choose_group(std::span<const SuspectCandidate> claim, std::size_t most);

// What one step does; the second transaction needs it.
struct SuspectStep {
  int lane = 0;
  std::vector<std::int64_t> event_ids;   // sorted
  std::vector<std::int64_t> alone;       // of them, those that must run alone; sorted
  std::optional<std::string> attempted;  // the event fails with this instead of running
  bool last = false;                     // with it the lane's suspicion ends, if that is
  std::uint64_t until_seq = 0;  // still up to here: the lanes may have been shared out anew
};

// Of one process. A step has the process's handlers for itself: an end while an event runs alone is
// then that event's, not that of another batch.
class SuspectsShared {
 public:
  // `worker_id`: of the process in spillway.workers, 0 while it is not known.
  explicit SuspectsShared(std::function<std::int64_t()> worker_id);

  [[nodiscard]] std::int64_t worker_id() const { return worker_id_(); }
  [[nodiscard]] const std::string& process() const { return process_; }

  // While one of these lives, its runner is at a batch, or at a step. May be empty.
  class Turn {
   public:
    Turn() = default;
    Turn(SuspectsShared* shared, bool alone) : shared_(shared), alone_(alone) {}
    Turn(Turn&& other) noexcept
        : shared_(std::exchange(other.shared_, nullptr)), alone_(other.alone_) {}
    Turn& operator=(Turn&& other) noexcept {
      std::swap(shared_, other.shared_);
      std::swap(alone_, other.alone_);
      return *this;
    }
    ~Turn() {
      if (shared_ != nullptr) shared_->end(alone_);
    }
    explicit operator bool() const { return shared_ != nullptr; }

   private:
    SuspectsShared* shared_ = nullptr;
    bool alone_ = false;
  };
  [[nodiscard]] Turn begin_batch();
  // Waits for the batches in hand, and lets no other begin. Empty when they take longer than
  // `most`.
  [[nodiscard]] Turn begin_step(std::chrono::milliseconds most);

 private:
  void end(bool alone);

  std::function<std::int64_t()> worker_id_;
  std::string process_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int batches_ = 0;
  int steps_wanted_ = 0;  // they go first
  bool step_ = false;
};

class Suspects {
 public:
  // `shared` may be null: then there is no suspicion.
  Suspects(SqlSession& session, SuspectsShared* shared) : session_(session), shared_(shared) {}

  [[nodiscard]] bool enabled() const { return shared_ != nullptr; }
  [[nodiscard]] SuspectsShared::Turn begin_batch() {
    return shared_ == nullptr ? SuspectsShared::Turn() : shared_->begin_batch();
  }

  struct Prepared {
    SuspectsShared::Turn turn;        // for as long as the step lasts
    std::optional<SuspectStep> step;  // to be run now
    bool moved = false;               // a lane's suspicion has ended
  };
  // The first transaction, on the first of the lanes that is free. No batch of this runner may be
  // in hand.
  [[nodiscard]] Prepared prepare(std::span<const int> lanes, LaneMarks& marks, std::size_t most,
                                 std::size_t bytes);

  // What both transactions claim: the common queue, and before it what has a priority, the oldest
  // first, so that what comes in between does not change it.
  [[nodiscard]] static QueueStore::QueueClaim claim_queue(QueueStore& store,
                                                          const OwnedLanes& owned,
                                                          const LaneStarts& starts,
                                                          std::size_t limit, std::size_t bytes);
  // Keeps the step's events of a claim, in either list. False: they are not all there.
  [[nodiscard]] static bool keep(const SuspectStep& step, std::vector<ClaimedEvent>& waited,
                                 std::vector<ClaimedEvent>& queued);
  // In the second transaction, last: takes the notes away. Throws SqlError 40001 when they are not
  // this process's any more.
  void settle(const SuspectStep& step);

 private:
  // False: somebody else is at this lane.
  bool prepare_lane(int lane, LaneMarks& marks, std::size_t most, std::size_t bytes,
                    Prepared& prepared);
  void end_suspicion(int lane, std::uint64_t until_seq);  // if it is up to there

  SqlSession& session_;
  SuspectsShared* shared_;
};

// Removes the processes that do not live from spillway.workers. If one of them ran handlers, every
// lane is under suspicion from then on, and `log` is told so. Opens a transaction.
void note_ended_workers(SqlSession& session, const std::function<void(const std::string&)>& log);
// The same in the transaction that is open; returns what is to be logged after it, "" for nothing.
[[nodiscard]] std::string note_ended_workers(SqlSession& session);

// Who the notes call "pid 17 on host".
[[nodiscard]] std::string process_name(int pid);

// note_ended_workers(), once a second.
[[nodiscard]] MaintenanceTask suspicion_upkeep(std::function<void(const std::string&)> log);

// Waits until the server, too, has noticed the end of a process (two seconds at most), and adds to
// the notes that it left how it ended: "was ended by SIGSEGV".
void await_end(SqlSession& session, const std::string& process, const std::string& how);

// An event that was seen to hang: its attempt has failed with `error`.
void blame(SqlSession& session, std::int64_t event_id, std::uint64_t seq, const std::string& error);

}  // namespace spillway
