// One batch: own lanes, claim, run handlers, apply effects, complete, write broadcasts; all in one
// transaction. Then hand the broadcasts to the streams of this process.
//
// The fast path has no savepoint. When the database refuses the grouped effects, the transaction is
// rolled back and the next batch is careful: same work under savepoints, bisected until each event
// that is at fault stands alone.
// One session, one thread. Errors: ConnectionLost, and SqlError only for outages; whatever an event
// brings about ends as that event's failure.
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
#include <unordered_map>
#include <vector>

#include "effects/executor.hpp"
#include "effects/outbox.hpp"
#include "processor/declared_reads.hpp"
#include "processor/handler_set.hpp"
#include "processor/handler_watchdog.hpp"
#include "processor/lane_marks.hpp"
#include "processor/queue_store.hpp"
#include "processor/retry_policy.hpp"
#include "processor/suspects.hpp"
#include "spillway/registry.hpp"
#include "sse/broadcast.hpp"

namespace spillway {

struct BatchOptions {
  RetryPolicy retry;
  bool unhandled_is_dead = false;  // else an event without a handler is done
  std::size_t bytes = 16u << 20;   // payload of one batch, about
};

// Wiring that outlives the batch; all of it may be used by several runners at once.
struct BatchSinks {
  std::function<void(sse::BroadcastBatch)> broadcast;  // after COMMIT; may be empty
  std::function<void()> settled;                       // after COMMIT, whenever events were settled
  std::function<bool()> others_listen;                 // do other processes serve streams?
  std::function<void(std::int64_t event_id, const Log&)> log;  // Log effects, after COMMIT
  std::function<void(const std::string& line)> warn;           // a failure, for the log
  std::function<void()> webhooks;                              // there are some, after COMMIT
  SuspectsShared* suspects = nullptr;  // of this process; null: nothing is ever suspected
  HandlerSlot* handling = nullptr;     // of this runner; null: nobody watches its handlers
};

struct BatchResult {
  std::size_t taken = 0;  // events claimed; all of them are settled one way or another
  std::size_t done = 0;
  std::size_t retried = 0;
  std::size_t dead = 0;
  std::size_t held = 0;
  std::uint64_t xmin = 0;  // see QueueStore::arm
  bool scheduled_moved = false;
  bool armed = false;      // inserts notify
  bool suspected = false;  // a step of the search for a suspect was made: look again
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
  // What runs for a type, in order.
  struct Handlers {
    std::vector<const Registration*> list;
    bool reads = false;  // one of them declares a read
  };
  struct Work {
    ClaimedEvent* claimed = nullptr;
    const Handlers* handlers = nullptr;
    std::vector<json> data;  // what each of them reads; empty when none does
    CompiledEffects effects;
    std::optional<json> response;
    enum class State { ready, held, done, failed } state = State::ready;
    std::string error;
    std::string sqlstate;
    bool deterministic = false;
  };

  void set_suspected_aside(OwnedLanes& owned);
  bool note_suspected(const std::vector<ClaimedEvent>& waited);
  void take_registry();
  const Handlers& handlers_of(const std::string& type);
  void read_declared(std::vector<Work>& work, std::size_t begin, std::size_t end, bool careful);
  void handle(std::vector<Work>& work, std::size_t begin, std::size_t end);
  Result run_handlers(Work& work);
  void apply_all(std::vector<Work>& work, std::size_t begin, std::size_t end);
  void apply_carefully(std::vector<Work>& work, std::size_t begin, std::size_t end);
  void apply_alone(std::vector<Work>& work, std::size_t at);
  void hold_followers(std::vector<Work>& work, std::size_t failed);
  void fail(Work& work, const std::string& error, std::string sqlstate, bool deterministic);
  // Returns the transaction's xid, if it took anything from the queue.
  std::uint64_t settle(std::vector<Work>& work, std::span<const ClaimedEvent> from_queue,
                       BatchResult& result);
  [[nodiscard]] int attempts_allowed(const ClaimedEvent& claimed) const;
  [[nodiscard]] bool is_final(const Work& work) const;
  void check_deferred_constraints();

  SqlSession& session_;
  const HandlerSet& handlers_;
  std::shared_ptr<const Registry> registry_;                    // the batch's
  std::unordered_map<std::string, Handlers> handlers_by_type_;  // of that registry
  LaneMarks& marks_;
  BatchOptions options_;
  BatchSinks sinks_;
  QueueStore store_;
  DeclaredReads reads_;
  Executor executor_;
  Outbox outbox_;
  std::vector<std::pair<std::int64_t, Log>> logs_;  // of the batch, for after its commit
  bool webhooks_ = false;                           // the batch wrote some
  Suspects suspects_;
  const SuspectStep* step_ = nullptr;  // the one in hand
  std::vector<int> suspected_lanes_;
  bool suspects_next_ = false;  // suspected lanes and the others take turns
  std::mt19937_64 random_;
  std::string defer_again_;  // SET CONSTRAINTS … DEFERRED for those that start so; careful only
  bool schema_suspect_ = false;  // a statement failed as if the schema had changed
  int failures_in_a_row_ = 0;
  // An event that, alone in a careful batch, could not be completed: it fails with this the next
  // time.
  std::int64_t condemned_ = 0;
  std::string condemned_error_;
  std::string condemned_sqlstate_;
};

}  // namespace spillway
