#include "processor/batch.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "processor/migrator.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;

// An event that only waits for somebody else's lock comes back after this long at most.
constexpr milliseconds longest_lock_delay{30'000};

// After a batch of no more, the next claim goes along with owning the lanes: that saves a round
// trip where latency is what matters. After larger ones a claim that turns out to be of no use
// would cost more than that.
constexpr std::size_t few = 64;

LaneStarts starts_of(const std::vector<LaneMarks::Claim>& claims) {
  LaneStarts starts;
  for (const LaneMarks::Claim& claim : claims) {
    starts.from.push_back(claim.from);
    starts.fast.push_back(claim.fast);
    for (const std::uint64_t xid : claim.blockers)
      if (std::find(starts.blockers.begin(), starts.blockers.end(), xid) == starts.blockers.end())
        starts.blockers.push_back(xid);
  }
  return starts;
}

// Those of the claims, one for each lane of `order`, that are for `lanes`.
std::vector<LaneMarks::Claim> of_lanes(std::span<const int> order,
                                       std::vector<LaneMarks::Claim> claims,
                                       const std::vector<int>& lanes) {
  std::vector<LaneMarks::Claim> kept;
  kept.reserve(lanes.size());
  for (const int lane : lanes) {
    const auto at = std::find(order.begin(), order.end(), lane);
    kept.push_back(std::move(claims[static_cast<std::size_t>(at - order.begin())]));
  }
  return kept;
}

}  // namespace

Batch::Batch(SqlSession& session, const HandlerSet& handlers, LaneMarks& marks,
             BatchOptions options, BatchSinks sinks, std::uint64_t seed)
    : marks_(marks),
      options_(options),
      sinks_(std::move(sinks)),
      store_(session),
      handling_(session, handlers, handling_options()),
      outbox_(session),
      suspects_(session, sinks_.suspects),
      random_(seed) {}

HandlingOptions Batch::handling_options() {
  HandlingOptions options;
  options.unhandled_is_dead = options_.unhandled_is_dead;
  options.lock_timeout = options_.lock_timeout;
  options.batch_timeout = options_.batch_timeout;
  options.meter = sinks_.meter;
  options.slot = sinks_.handling;
  options.failed = [this](std::vector<Work>& work, std::size_t at) { hold_followers(work, at); };
  return options;
}

BatchResult Batch::run(std::span<const int> order, std::size_t lanes, std::size_t limit,
                       bool careful) {
  BatchResult result;
  {
    const auto turn = suspects_.begin_batch();
    result = attempt(order, lanes, limit, careful, nullptr);
  }
  if (suspected_lanes_.empty()) return result;
  const std::vector<int> suspected = std::exchange(suspected_lanes_, {});
  const Suspects::Prepared prepared =
      suspects_.prepare(suspected, marks_, std::min(limit, most_suspects), options_.bytes);
  if (prepared.step) {
    result = attempt({&prepared.step->lane, 1}, 1, std::min(limit, most_suspects), true,
                     &*prepared.step);
  }
  result.suspected = prepared.step || prepared.moved;
  return result;
}

BatchResult Batch::attempt(std::span<const int> order, std::size_t lanes, std::size_t limit,
                           bool careful, const SuspectStep* step) {
  BatchResult result;
  step_ = step;
  std::int64_t alone = 0;  // the event of a batch of one
  xid_ = 0;
  handling_.begin();
  outbox_.clear();
  logs_.clear();
  failures_.clear();
  outcomes_.clear();
  webhooks_ = false;
  store_.begin();
  try {
    // A snapshot of some batches ago will do to start from: what was settled stays so.
    std::vector<LaneMarks::Claim> claims;
    std::optional<QueueStore::Look> look;
    if (step == nullptr && claim_along_ && xmin_ != 0) {
      for (const int lane : order)
        claims.push_back(marks_.begin(static_cast<std::size_t>(lane), xmin_));
      look = store_.look(order, lanes, starts_of(claims), limit, options_.bytes);
    }
    OwnedLanes owned = look ? std::move(look->owned) : store_.own_lanes(order, lanes);
    if (owned.xmin != 0) xmin_ = owned.xmin;
    const bool common =
        !owned.waiting_due && !owned.scheduled_due && !owned.ranked && owned.suspected.empty();
    if (look && (!common || !look->claim || look->claim->ranked_left)) look.reset();
    result.lane_count = static_cast<std::size_t>(owned.lane_count);
    result.xmin = owned.xmin;
    result.armed_left = owned.armed_left;
    if (owned.schema_version > newest_schema_version()) {
      store_.rollback();
      throw newer_than_binary(owned.schema_version);
    }
    if (step == nullptr && !owned.suspected.empty()) set_suspected_aside(owned);
    result.lanes = owned.lanes.size();
    if (owned.lanes.empty()) {
      store_.rollback();
      // Somebody else is looking at the lane of the step.
      if (step != nullptr) result.outcome = BatchResult::Outcome::again;
      return result;
    }
    if (owned.scheduled_due && step == nullptr) {
      store_.promote_scheduled();
      result.scheduled_moved = true;
    }

    if (marks_.wants_sample())
      if (const auto writers = store_.queue_writers()) marks_.sample(*writers);
    if (look) {
      claims = of_lanes(order, std::move(claims), owned.lanes);
    } else {
      claims.clear();
      for (const int lane : owned.lanes)
        claims.push_back(marks_.begin(static_cast<std::size_t>(lane), owned.xmin));
    }

    std::vector<ClaimedEvent> waited;
    // Half of the batch at most, so that many retries at once leave room for what is new.
    if (step != nullptr) {  // exactly as it was prepared
      if (owned.waiting_due) waited = store_.claim_waiting(owned.lanes, limit);
    } else if (owned.waiting_due && !std::exchange(queue_only_, false)) {
      waited = store_.claim_waiting(owned.lanes, (limit + 1) / 2);
    }
    QueueStore::QueueClaim queued;
    queued.cut = true;
    if (look)
      queued = std::move(*look->claim);
    else if (waited.size() < limit)
      queued = step != nullptr ? Suspects::claim_queue(store_, owned, starts_of(claims),
                                                       limit - waited.size(), options_.bytes)
                               : claim_queue(owned, starts_of(claims), limit - waited.size());
    if (step != nullptr && !Suspects::keep(*step, waited, queued.events)) {
      store_.rollback();
      result.outcome = BatchResult::Outcome::again;
      return result;
    }
    if (step == nullptr && suspects_.enabled() && note_suspected(waited)) {
      store_.rollback();
      return result;
    }
    result.taken = waited.size() + queued.events.size();
    result.blocked = result.taken == 0 && queued.ranked_left;
    result.more = queued.cut;

    // Those that are tried again may well be those that wait for somebody.
    if (timed_out_ || !waited.empty()) handling_.wait_briefly(timed_out_);

    if (result.taken > 0) {
      std::vector<Work> work(result.taken);
      std::size_t next = 0;
      for (auto* events : {&waited, &queued.events})
        for (ClaimedEvent& claimed : *events) work[next++].claimed = &claimed;
      // Lanes were read one after the other; what is visible together runs in id order.
      std::sort(work.begin(), work.end(), [](const Work& a, const Work& b) {
        return a.claimed->event.id < b.claimed->event.id;
      });
      if (work.size() == 1) alone = work.front().claimed->event.id;
      handling_.run(work, careful,
                    step != nullptr && step->attempted ? &*step->attempted : nullptr);
      settle(work, queued.events, result);
    }
    claim_along_ = common && result.taken <= few;
    result.complete = common && !careful && !queued.cut && result.done == result.taken;
    if (step != nullptr) suspects_.settle(*step);
    store_.commit();
    result.waited_in_vain = handling_.waits_in_vain() > 0;
    // Many that wait for locks must not keep the new ones waiting.
    queue_only_ = result.waited_in_vain && !waited.empty();

    // With priorities what was read is not what was taken.
    if (queued.ranked_left || step != nullptr) claims.clear();
    // Moving scheduled events gave the transaction its xid before the read.
    if (result.scheduled_moved) xid_ = 0;
    // Every owned lane counts, also those in which nothing was found.
    for (std::size_t i = 0; i < claims.size(); ++i) {
      std::optional<std::uint64_t> last;
      for (const ClaimedEvent& claimed : queued.events)
        if (claimed.lane == owned.lanes[i]) last = std::max(last.value_or(0), claimed.seq);
      // A claim that was cut may not have come to this lane at all.
      if (queued.cut && !last) continue;
      marks_.committed(static_cast<std::size_t>(owned.lanes[i]), claims[i],
                       {last, queued.cut, xid_, queued.fast || queued.events.empty()});
    }
  } catch (const SqlError& error) {
    handling_.refused(error);
    const FailureClass failure = classify(error.sqlstate());
    if (failure == FailureClass::outage) throw;
    store_.rollback();
    ++failures_in_a_row_;
    // Serialization trouble goes away by itself, mostly; the rest is some event's fault.
    const bool again = failure == FailureClass::batch && failures_in_a_row_ < 3;
    timed_out_ = failure == FailureClass::timeout;
    result.waited_in_vain = error.sqlstate() == lock_not_available;
    result.outcome = again ? BatchResult::Outcome::again : BatchResult::Outcome::careful_next;
    if (careful && alone != 0 && failure != FailureClass::batch && failure != FailureClass::timeout)
      handling_.condemn(alone, error);
    if (careful && sinks_.warn)
      sinks_.warn("a batch of " + std::to_string(result.taken) +
                  " events could not be completed: " + error.what());
    return result;
  }
  failures_in_a_row_ = 0;
  timed_out_ = false;
  handling_.absolve(alone);
  count();
  if (!outbox_.empty() && sinks_.broadcast) {
    sse::BroadcastBatch broadcasts = outbox_.take();
    broadcasts.committed = std::chrono::steady_clock::now();
    sinks_.broadcast(std::move(broadcasts));
  }
  if (result.taken > 0 && sinks_.settled) sinks_.settled();
  if (webhooks_ && sinks_.webhooks) sinks_.webhooks();
  if (sinks_.log)
    for (const auto& [origin, entry] : logs_) sinks_.log(origin, entry);
  for (const auto& [key, line] : failures_) sinks_.failed(key, line);
  return result;
}

QueueStore::QueueClaim Batch::claim_queue(const OwnedLanes& owned, const LaneStarts& starts,
                                          std::size_t limit) {
  if (!owned.ranked) {
    QueueStore::QueueClaim queued = store_.claim_queue(owned.lanes, starts, limit, options_.bytes);
    if (!queued.ranked_left) return queued;
  }
  // Of sixteen batches eleven go by priority.
  const unsigned turn = turn_++ % 16;
  const Turn whose = turn == 15      ? Turn::lowest
                     : turn % 4 == 3 ? Turn::common
                     : turn == 5     ? Turn::oldest
                                     : Turn::highest;
  return store_.claim_ranked(owned.lanes, starts, limit, options_.bytes, whose);
}

// Lanes under suspicion and those that are not take turns, so that neither waits for the other.
void Batch::set_suspected_aside(OwnedLanes& owned) {
  if (!suspects_.enabled()) return;
  suspects_next_ = !suspects_next_ || owned.suspected.size() == owned.lanes.size();
  if (suspects_next_) {
    suspected_lanes_ = owned.suspected;
    owned.lanes.clear();
    return;
  }
  std::erase_if(owned.lanes, [&](int lane) {
    return std::find(owned.suspected.begin(), owned.suspected.end(), lane) != owned.suspected.end();
  });
}

// An event that ended a process must not run with others, even when its lane is long past that.
bool Batch::note_suspected(const std::vector<ClaimedEvent>& waited) {
  for (const ClaimedEvent& claimed : waited)
    if (claimed.suspect && std::find(suspected_lanes_.begin(), suspected_lanes_.end(),
                                     claimed.lane) == suspected_lanes_.end())
      suspected_lanes_.push_back(claimed.lane);
  return !suspected_lanes_.empty();
}

void Batch::hold_followers(std::vector<Work>& work, std::size_t failed) {
  const auto& stream = work[failed].claimed->event.stream;
  if (!stream || !holds_stream(work[failed])) return;
  for (std::size_t i = failed + 1; i < work.size(); ++i)
    if (work[i].claimed->event.stream == stream && work[i].state == Work::State::ready)
      work[i].state = Work::State::held;
}

void Batch::note(const Work& work, Outcome outcome) {
  TypeMeter* const meter = work.handlers->meter;
  if (meter == nullptr) return;
  if (outcomes_.empty() || outcomes_.back().meter != meter || outcomes_.back().outcome != outcome)
    outcomes_.push_back({meter, outcome, 0});
  ++outcomes_.back().events;
}

void Batch::count() {
  if (sinks_.meter == nullptr) return;
  sinks_.meter->broadcasts.add(outbox_.durable());
  sinks_.meter->ephemeral.add(outbox_.ephemeral());
  for (const Noted& noted : outcomes_) noted.meter->outcomes.add(noted.outcome, noted.events);
}

void Batch::report(const Work& work, LogLevel level, const char* what, const std::string& more) {
  const Event& event = work.claimed->event;
  LogFields fields = fields_of(event);
  fields["attempt"] = work.claimed->attempts + 1;
  if (!work.sqlstate.empty()) fields["sqlstate"] = work.sqlstate;
  failures_.emplace_back(
      std::string(what) + "s of type " + event.type,
      LogLine(level, (more.empty() ? what : more) + ": " + work.error, std::move(fields)));
}

int Batch::attempts_allowed(const ClaimedEvent& claimed) const {
  return claimed.max_attempts.value_or(options_.retry.max_attempts);
}

// Whoever holds a lock is to blame for a wait, not the event: that is never its last attempt.
bool Batch::is_final(const Work& work) const {
  if (work.sqlstate == lock_not_available) return false;
  return work.deterministic || work.claimed->attempts + 1 >= attempts_allowed(*work.claimed);
}

bool Batch::holds_stream(const Work& failed) const {
  return failed.claimed->event.stream && (options_.dead_holds_stream || !is_final(failed));
}

void Batch::settle(std::vector<Work>& work, std::span<const ClaimedEvent> from_queue,
                   BatchResult& result) {
  std::vector<Postponed> postponed;
  std::vector<Buried> buried;
  std::vector<std::int64_t> left_waiting;    // ids that need not wait any longer
  std::unordered_set<std::string> streams;   // of which something waited
  std::vector<const ClaimedEvent*> holding;  // their stream
  std::vector<std::pair<std::int64_t, json>> responses;
  for (Work& item : work) {
    const ClaimedEvent& claimed = *item.claimed;
    const bool was_waiting = claimed.seq == 0;
    if ((was_waiting || claimed.held) && claimed.event.stream)
      streams.insert(*claimed.event.stream);
    switch (item.state) {
      case Work::State::ready:
      case Work::State::done:
        ++result.done;
        note(item, claimed.discarded             ? Outcome::discarded
                   : item.handlers->list.empty() ? Outcome::unhandled
                                                 : Outcome::done);
        if (was_waiting) left_waiting.push_back(claimed.event.id);
        outbox_.add(claimed.event.id, std::move(item.effects.broadcasts));
        if (item.response) responses.emplace_back(claimed.event.id, std::move(*item.response));
        webhooks_ = webhooks_ || item.effects.webhooks;
        for (Log& log : item.effects.logs)
          logs_.emplace_back(origin_of(claimed.event), std::move(log));
        break;
      case Work::State::held:
        ++result.held;
        if (!was_waiting) postponed.push_back({&claimed, 0, std::nullopt, {}, {}, claimed.suspect});
        break;
      case Work::State::failed: {
        const int attempts = claimed.attempts + 1;
        const bool holds = holds_stream(item);
        if (holds) holding.push_back(&claimed);
        if (is_final(item)) {
          ++result.dead;
          note(item, Outcome::dead);
          if (was_waiting && !holds) left_waiting.push_back(claimed.event.id);
          if (sinks_.failed) report(item, LogLevel::warn, "dead letter", "");
          buried.push_back({&claimed, attempts, item.error, item.sqlstate, holds,
                            step_ != nullptr && step_->attempted});
        } else {
          ++result.retried;
          note(item, Outcome::retried);
          const double share = std::uniform_real_distribution<double>(0, 1)(random_);
          auto delay = options_.retry.delay(attempts, share);
          if (item.sqlstate == lock_not_available) delay = std::min(delay, longest_lock_delay);
          if (sinks_.failed)
            report(item, LogLevel::info, "failed attempt",
                   "attempt " + std::to_string(attempts) + " of " +
                       std::to_string(attempts_allowed(claimed)) + " failed, next in " +
                       std::to_string(delay.count()) + " ms");
          postponed.push_back({&claimed, attempts, delay, item.error, item.sqlstate,
                               step_ != nullptr && step_->attempted});
        }
        break;
      }
    }
  }
  store_.remove_from_queue(from_queue, xid_);
  store_.remove_from_waiting(left_waiting);
  store_.postpone(postponed);
  store_.bury(buried);
  store_.hold_behind(holding);
  store_.save_responses(responses);
  const std::vector<std::string> to_release(streams.begin(), streams.end());
  store_.release_streams(to_release);
  // Last, because it takes the lock on the head that all batches share until their COMMIT.
  outbox_.write(sinks_.others_listen && sinks_.others_listen());
}

}  // namespace spillway
