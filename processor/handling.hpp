// The middle of a batch, which live work and a replay have in common: handlers looked up, declared
// reads, handlers run, effects checked and applied, in the transaction of whoever calls.
//
// The fast way has no savepoint; what the database refuses comes out as SqlError, and the
// transaction must be rolled back. The careful way does the same under savepoints, halved until
// each event that is at fault stands alone. One session, one thread. Errors: ConnectionLost;
// SqlError.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "effects/effect_kinds.hpp"
#include "effects/executor.hpp"
#include "processor/declared_reads.hpp"
#include "processor/event_meter.hpp"
#include "processor/event_rows.hpp"
#include "processor/handler_set.hpp"
#include "processor/handler_watchdog.hpp"
#include "spillway/registry.hpp"

namespace spillway {

// What runs for a type, in order.
struct TypeHandlers {
  std::vector<const Registration*> list;
  bool reads = false;          // one of them declares a read
  TypeMeter* meter = nullptr;  // what is counted of the type; may be null
};

// An event on its way from its handlers to its effects.
struct Work {
  ClaimedEvent* claimed = nullptr;
  const TypeHandlers* handlers = nullptr;
  std::vector<json> data;  // what each of them reads; empty when none does
  EffectCounts asked{};    // what the handlers asked for, wanted or not
  CompiledEffects effects;
  std::optional<json> response;
  enum class State { ready, held, done, failed } state = State::ready;
  std::string error;
  std::string sqlstate;
  bool deterministic = false;  // no retry can mend it
};

struct HandlingOptions {
  bool unhandled_is_dead = false;          // else an event without a handler has no effects
  EffectKinds kinds = EffectKinds::all();  // the others are passed over
  bool apply = true;                       // else effects are only checked
  // What the session's lock_timeout and statement_timeout are set to; 0: no limit.
  std::chrono::milliseconds lock_timeout{0};
  std::chrono::milliseconds batch_timeout{0};
  RunnerMeter* meter = nullptr;  // counts; may be null
  HandlerSlot* slot = nullptr;   // says which event the handlers have; null: nobody watches them
  std::function<void(std::vector<Work>& work, std::size_t at)> failed;  // may hold later ones back
};

class Handling {
 public:
  Handling(SqlSession& session, const HandlerSet& handlers, HandlingOptions options);

  // Before each transaction: the handlers that are now in force.
  void begin();

  // `work`, in id order, with `claimed` set; afterwards each is done, held or failed (ready, where
  // nothing is to be applied). `failed` is called for each failure before anything of a later event
  // is applied.
  // `attempted`: instead of running, each event fails with this: its attempt ended a process.
  void run(std::vector<Work>& work, bool careful, const std::string* attempted = nullptr);

  // For the rest of the transaction: waits for locks, and `after_timeout` statements too, are cut
  // to a share of their limits, because some of it is likely to wait in vain.
  void wait_briefly(bool after_timeout);
  // Parts of the batch that ran into lock_timeout.
  [[nodiscard]] int waits_in_vain() const { return waits_in_vain_; }

  // A transaction was rolled back for this: the schema may not be what it was.
  void refused(const SqlError& error);

  // The event could not be completed although it was alone: it fails with this, until absolved.
  void condemn(std::int64_t event_id, const SqlError& error);
  void absolve(std::int64_t event_id) {
    if (event_id == condemned_) condemned_ = 0;
  }

 private:
  void take_registry();
  const TypeHandlers& handlers_of(const std::string& type);
  void read_declared(std::vector<Work>& work, std::size_t begin, std::size_t end, bool careful);
  Result run_handlers(Work& work);
  void handle(std::vector<Work>& work, std::size_t begin, std::size_t end,
              const std::string* attempted);
  void apply_all(std::vector<Work>& work, std::size_t begin, std::size_t end);
  void apply_carefully(std::vector<Work>& work, std::size_t begin, std::size_t end);
  void apply_alone(std::vector<Work>& work, std::size_t at);
  void check_deferred_constraints();
  void waited_in_vain(const SqlError& error);
  std::chrono::steady_clock::time_point stay_in_touch();  // returns the time
  void fail(std::vector<Work>& work, std::size_t at, const std::string& error, std::string sqlstate,
            bool deterministic);

  SqlSession& session_;
  const HandlerSet& handlers_;
  HandlingOptions options_;
  std::shared_ptr<const Registry> registry_;                        // the batch's
  std::unordered_map<std::string, TypeHandlers> handlers_by_type_;  // of that registry
  DeclaredReads reads_;
  Executor executor_;
  std::string defer_again_;  // SET CONSTRAINTS … DEFERRED for those that start so; careful only
  bool schema_suspect_ = false;  // a statement failed as if the schema had changed
  int waits_in_vain_ = 0;
  std::chrono::steady_clock::time_point began_;
  std::chrono::steady_clock::time_point last_statement_;  // about; while handlers run
  std::int64_t condemned_ = 0;
  std::string condemned_error_;
  std::string condemned_sqlstate_;
};

}  // namespace spillway
