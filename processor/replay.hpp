// Runs events of the log through the handlers again, a batch at a time.
//
// A step is one transaction: it reads the next events, runs their handlers with their declared
// reads, applies the effects of the kinds that are asked for, and writes down how far the replay
// is. So each event's effects are applied once per replay, wherever it is cut off. It takes no lane
// and nothing of the queue; live work goes on. One session, one thread. Errors: ConnectionLost,
// SqlError for outages (in both cases make a new Replay on a new session: it goes on behind the
// last commit), ReplayError.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "effects/outbox.hpp"
#include "effects/sql.hpp"
#include "processor/batch_size.hpp"
#include "processor/handler_set.hpp"
#include "processor/handling.hpp"
#include "processor/log_effect.hpp"
#include "processor/replay_store.hpp"

namespace spillway {

struct ReplayOptions {
  std::size_t batch = 1000;       // events of a step, at most; fewer while steps take long
  std::size_t bytes = 16u << 20;  // payload of a step, about
  bool skip_failures = false;     // else the first event that fails ends the replay
  std::function<void(const LogOrigin&, const Log&)> log;  // Log effects, after COMMIT
};

class Replay {
 public:
  Replay(SqlSession& session, const HandlerSet& handlers, std::int64_t id, ReplayOptions options);

  enum class Outcome {
    more,      // committed; there is more
    finished,  // committed; that was all
    stopped,   // an event failed: everything before it is committed; state().last_error names it
    again,     // rolled back; the next step does the same, in another way
  };
  Outcome step();

  // As of the last commit.
  [[nodiscard]] const ReplayState& state() const { return state_; }

 private:
  [[nodiscard]] HandlingOptions handling_options(ReplayOptions& options);
  [[nodiscard]] bool passing_trouble(const std::vector<Work>& work) const;
  bool settle(std::vector<Work>& work, ReplayState& fresh);

  SqlSession& session_;
  ReplayStore store_;
  ReplayState state_;
  ReplayOptions options_;
  Handling handling_;
  Outbox outbox_;
  BatchSize size_;
  std::vector<std::pair<LogOrigin, Log>> logs_;  // of the step, for after its commit
  bool careful_ = false;
  int troubles_ = 0;            // steps in a row that were rolled back
  std::int64_t condemned_ = 0;  // the event that fails, in the next step, for the last one
};

}  // namespace spillway
