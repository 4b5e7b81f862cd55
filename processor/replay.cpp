#include "processor/replay.hpp"

#include <optional>

#include "processor/retry_policy.hpp"

namespace spillway {
namespace {

// Deadlocks and timeouts that a step meets with live work; more in a row are no coincidence.
constexpr int most_troubles = 10;

}  // namespace

Replay::Replay(SqlSession& session, const HandlerSet& handlers, std::int64_t id,
               ReplayOptions options)
    : session_(session),
      store_(session),
      state_(store_.read(id)),
      options_(std::move(options)),
      handling_(session, handlers, handling_options(options_)),
      outbox_(session),
      size_(options_.batch) {}

HandlingOptions Replay::handling_options(ReplayOptions& options) {
  // Nothing is at stake in a dry run: it is there to find all that fails.
  options.skip_failures = options.skip_failures || state_.request.dry_run;
  HandlingOptions handling;
  handling.kinds = state_.request.kinds;
  handling.apply = !state_.request.dry_run;
  if (!options.skip_failures)
    handling.failed = [](std::vector<Work>& work, std::size_t at) {
      for (std::size_t i = at + 1; i < work.size(); ++i)
        if (work[i].state == Work::State::ready) work[i].state = Work::State::held;
    };
  return handling;
}

Replay::Outcome Replay::step() {
  const auto begin = std::chrono::steady_clock::now();
  ReplayState fresh = state_;
  std::int64_t alone = 0;  // the event of a step of one
  std::size_t taken = 0;
  bool stopped = false;
  handling_.begin();
  outbox_.clear();
  logs_.clear();
  session_.exec("BEGIN ISOLATION LEVEL READ COMMITTED");
  try {
    store_.lock(state_);
    ReplayStore::Page page;
    page.next = state_.next;
    if (state_.next <= state_.last) page = store_.read_log(state_, size_.next(), options_.bytes);
    taken = page.events.size();
    std::vector<Work> work(taken);
    for (std::size_t i = 0; i < taken; ++i) work[i].claimed = &page.events[i];
    if (taken == 1) alone = page.events.front().event.id;
    fresh.next = page.next;
    handling_.run(work, careful_);
    if (passing_trouble(work)) {
      session_.exec("ROLLBACK");
      ++troubles_;
      return Outcome::again;
    }
    stopped = settle(work, fresh);
    store_.save(fresh);
    // Last, because it takes the lock on the head that live batches need for their COMMIT.
    outbox_.write(true);
    session_.exec("COMMIT");
  } catch (const SqlError& error) {
    handling_.refused(error);
    const FailureClass failure = classify(error.sqlstate());
    if (failure == FailureClass::outage) throw;
    session_.exec("ROLLBACK");
    if (taken == 0) throw;  // it was not the events' fault
    ++troubles_;
    if (failure != FailureClass::batch || troubles_ >= most_troubles) {
      // What fails even carefully, and cannot be pinned down, is looked for in smaller steps.
      if (careful_ && alone != 0) {
        if (condemned_ == alone) throw;  // nor does it go without the event
        condemned_ = alone;
        handling_.condemn(alone, error);
      }
      if (careful_) size_.failed();
      careful_ = true;
    }
    return Outcome::again;
  } catch (const ReplayError&) {
    session_.exec("ROLLBACK");
    throw;
  }
  state_ = std::move(fresh);
  careful_ = false;
  troubles_ = 0;
  condemned_ = 0;
  handling_.absolve(alone);
  size_.succeeded(taken, std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::steady_clock::now() - begin));
  if (options_.log)
    for (const auto& [origin, entry] : logs_) options_.log(origin, entry);
  if (stopped) return Outcome::stopped;
  return state_.next > state_.last ? Outcome::finished : Outcome::more;
}

// Did an event fail for what goes away by itself?
bool Replay::passing_trouble(const std::vector<Work>& work) const {
  if (troubles_ >= most_troubles) return false;
  for (const Work& item : work)
    if (item.state == Work::State::failed && !item.sqlstate.empty() &&
        classify(item.sqlstate) == FailureClass::batch)
      return true;
  return false;
}

// Counts what is done; true when the replay ends at an event that failed.
bool Replay::settle(std::vector<Work>& work, ReplayState& fresh) {
  fresh.last_error.clear();
  for (Work& item : work) {
    const std::int64_t id = item.claimed->event.id;
    if (item.state == Work::State::failed) {
      if (!options_.skip_failures) {
        fresh.next = id;
        fresh.last_error = item.error;
        return true;
      }
      ++fresh.failed;
      if (fresh.failures.size() < ReplayState::failures_kept)
        fresh.failures.push_back({id, item.error});
      continue;
    }
    ++fresh.events;
    for (std::size_t kind = 0; kind < effect_kind_count; ++kind)
      fresh.asked[kind] += item.asked[kind];
    if (state_.request.dry_run) continue;
    outbox_.add(id, std::move(item.effects.broadcasts));
    for (Log& log : item.effects.logs)
      logs_.emplace_back(origin_of(item.claimed->event), std::move(log));
  }
  return false;
}

}  // namespace spillway
