// One batch: own lanes, claim, run handlers, apply effects, complete, write broadcasts; all in one
// transaction. Then hand the broadcasts to the streams of this process.
//
// The fast path has no savepoint. When the database refuses the grouped effects, the transaction is
// rolled back and the next batch is careful: same work under savepoints, bisected until each event
// that is at fault stands alone.
// One session, one thread. Errors: ConnectionLost, SchemaVersionError when the schema has become
// newer than the binary, and SqlError only for outages; whatever an event brings about ends as that
// event's failure.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "effects/outbox.hpp"
#include "processor/event_meter.hpp"
#include "processor/handler_set.hpp"
#include "processor/handling.hpp"
#include "processor/lane_marks.hpp"
#include "processor/log_effect.hpp"
#include "processor/log_line.hpp"
#include "processor/queue_store.hpp"
#include "processor/retry_policy.hpp"
#include "processor/suspects.hpp"
#include "sse/broadcast.hpp"

namespace spillway {

struct BatchOptions {
  RetryPolicy retry;
  bool unhandled_is_dead = false;  // else an event without a handler is done
  bool dead_holds_stream = false;  // else a dead letter lets its stream go on
  std::size_t bytes = 16u << 20;   // payload of one batch, about
  // What the session's lock_timeout and statement_timeout are set to; 0: no limit.
  std::chrono::milliseconds lock_timeout{0};
  std::chrono::milliseconds batch_timeout{0};
};

// Wiring that outlives the batch; all of it may be used by several runners at once.
struct BatchSinks {
  std::function<void(sse::BroadcastBatch)> broadcast;  // after COMMIT; may be empty
  std::function<void()> settled;                       // after COMMIT, whenever events were settled
  std::function<bool()> others_listen;                 // do other processes serve streams?
  std::function<void(const LogOrigin&, const Log&)> log;  // Log effects, after COMMIT
  LogFunction warn;                                       // a batch that failed
  // Events that failed, after COMMIT; `key` says what the line is about, for a limit.
  std::function<void(const std::string& key, const LogLine& line)> failed;
  std::function<void()> webhooks;      // there are some, after COMMIT
  SuspectsShared* suspects = nullptr;  // of this process; null: nothing is ever suspected
  RunnerMeter* meter = nullptr;        // of this runner; null: nothing is counted
  HandlerSlot* handling = nullptr;     // of this runner; null: nobody watches its handlers
};

struct BatchResult {
  std::size_t taken = 0;  // events claimed; all of them are settled one way or another
  std::size_t done = 0;
  std::size_t retried = 0;
  std::size_t dead = 0;
  std::size_t held = 0;
  std::size_t lanes = 0;       // owned
  std::size_t lane_count = 0;  // that there are
  std::uint64_t xmin = 0;      // see QueueStore::arm
  bool scheduled_moved = false;
  std::chrono::milliseconds armed_left{0};  // see OwnedLanes
  bool complete = false;   // common events, all done, none left behind in the lanes that it owned
  bool blocked = false;    // nothing was taken, but another turn will take something
  bool more = false;       // there may be more in the lanes it owned
  bool suspected = false;  // a step of the search for a suspect was made: look again
  // Somebody's lock was in the way, so what it took says nothing about the batch's size.
  bool waited_in_vain = false;
  enum class Outcome { committed, careful_next, again } outcome = Outcome::committed;
};

class Batch {
 public:
  Batch(SqlSession& session, const HandlerSet& handlers, LaneMarks& marks, BatchOptions options,
        BatchSinks sinks, std::uint64_t seed);

  // `order`: lanes in the order of preference, of which at most `lanes` are taken.
  BatchResult run(std::span<const int> order, std::size_t lanes, std::size_t limit, bool careful);

 private:
  // One transaction. `step`: under suspicion, only what it names. Puts the lanes that need such a
  // step instead into suspected_lanes_.
  BatchResult attempt(std::span<const int> order, std::size_t lanes, std::size_t limit,
                      bool careful, const SuspectStep* step);
  void set_suspected_aside(OwnedLanes& owned);
  bool note_suspected(const std::vector<ClaimedEvent>& waited);
  [[nodiscard]] HandlingOptions handling_options();
  QueueStore::QueueClaim claim_queue(const OwnedLanes& owned, const LaneStarts& starts,
                                     std::size_t limit);
  void hold_followers(std::vector<Work>& work, std::size_t failed);  // if it holds its stream
  void settle(std::vector<Work>& work, std::span<const ClaimedEvent> from_queue,
              BatchResult& result);
  void report(const Work& work, LogLevel level, const char* what, const std::string& more);
  void note(const Work& work, Outcome outcome);
  void count();  // what was noted, after the commit
  [[nodiscard]] int attempts_allowed(const ClaimedEvent& claimed) const;
  [[nodiscard]] bool is_final(const Work& work) const;
  [[nodiscard]] bool holds_stream(const Work& failed) const;

  LaneMarks& marks_;
  BatchOptions options_;
  BatchSinks sinks_;
  QueueStore store_;
  Handling handling_;
  Outbox outbox_;
  std::vector<std::pair<LogOrigin, Log>> logs_;            // of the batch, for after its commit
  std::vector<std::pair<std::string, LogLine>> failures_;  // the same
  bool webhooks_ = false;                                  // the batch wrote some
  struct Noted {
    TypeMeter* meter = nullptr;
    Outcome outcome = Outcome::done;
    std::uint64_t events = 0;
  };
  std::vector<Noted> outcomes_;  // of the batch, neighbours joined
  Suspects suspects_;
  const SuspectStep* step_ = nullptr;  // the one in hand
  std::vector<int> suspected_lanes_;
  bool suspects_next_ = false;  // suspected lanes and the others take turns
  std::mt19937_64 random_;
  unsigned turn_ = 0;        // of claims with priorities
  std::uint64_t xid_ = 0;    // of the transaction, by its commit; 0: not known
  std::uint64_t xmin_ = 0;   // of the last snapshot that owned lanes
  bool claim_along_ = true;  // with owning the lanes, next time
  int failures_in_a_row_ = 0;
  bool timed_out_ = false;   // the batch before this one ended by a timeout
  bool queue_only_ = false;  // the next one: the last one's time went into events that wait
};

}  // namespace spillway
