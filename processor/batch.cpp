#include "processor/batch.hpp"

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <unordered_set>
#include <utility>

#include "effects/effect_error.hpp"
#include "processor/segments.hpp"

namespace spillway {
namespace {

constexpr std::size_t longest_error = 4000;  // bytes of an error that are kept

std::string describe(const Event& event) {
  return "event " + std::to_string(event.id) + " (" + event.type + "): ";
}

// Errors come from handlers and may hold anything; the table takes UTF-8 without NUL.
std::string storable(std::string text) {
  if (text.size() > longest_error) text.resize(longest_error);
  for (char& c : text)
    if (c == '\0') c = ' ';
  // Cut or foreign bytes: the JSON library's replacement does the work.
  const std::string quoted = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  return json::parse(quoted).get<std::string>();
}

}  // namespace

Batch::Batch(SqlSession& session, const HandlerSet& handlers, LaneMarks& marks,
             BatchOptions options, BatchSinks sinks, std::uint64_t seed)
    : session_(session),
      handlers_(handlers),
      marks_(marks),
      options_(options),
      sinks_(std::move(sinks)),
      store_(session),
      reads_(session),
      executor_(session),
      outbox_(session),
      suspects_(session, sinks_.suspects),
      random_(seed) {}

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
  std::uint64_t xid = 0;
  take_registry();
  outbox_.clear();
  logs_.clear();
  webhooks_ = false;
  if (std::exchange(schema_suspect_, false)) executor_.forget_schema();
  store_.begin();
  try {
    OwnedLanes owned = store_.own_lanes(order, lanes);
    result.xmin = owned.xmin;
    result.armed = owned.armed;
    if (step == nullptr && !owned.suspected.empty()) set_suspected_aside(owned);
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

    std::vector<LaneMarks::Claim> claims;
    std::vector<std::uint64_t> from;
    for (const int lane : owned.lanes) {
      claims.push_back(marks_.begin(static_cast<std::size_t>(lane), owned.xmin));
      from.push_back(claims.back().from);
    }

    std::vector<ClaimedEvent> waited;
    if (owned.waiting_due) waited = store_.claim_waiting(owned.lanes, limit);
    QueueStore::QueueClaim queued;
    queued.cut = true;
    if (waited.size() < limit)
      queued = store_.claim_queue(owned.lanes, from, limit - waited.size(), options_.bytes);
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
      bool reads = false;
      for (Work& item : work) {
        item.handlers = &handlers_of(item.claimed->event.type);
        reads = reads || item.handlers->reads;
      }
      std::vector<std::pair<std::size_t, std::size_t>> segments{{0, work.size()}};
      if (reads) {
        std::vector<SegmentInput> inputs;
        inputs.reserve(work.size());
        for (const Work& item : work)
          inputs.push_back({item.claimed->event.stream, item.handlers->reads});
        segments = segments_of(inputs);
      }
      for (const auto& [begin, end] : segments) {
        if (reads) read_declared(work, begin, end, careful);
        handle(work, begin, end);
        if (careful)
          apply_carefully(work, begin, end);
        else
          apply_all(work, begin, end);
      }
      xid = settle(work, queued.events, result);
    }
    if (step != nullptr) suspects_.settle(*step);
    store_.commit();

    // Moving scheduled events gave the transaction its xid before the read.
    if (result.scheduled_moved) xid = 0;
    // Every owned lane counts, also those in which nothing was found.
    for (std::size_t i = 0; i < owned.lanes.size() && step == nullptr; ++i) {
      std::optional<std::uint64_t> last;
      for (const ClaimedEvent& claimed : queued.events)
        if (claimed.lane == owned.lanes[i]) last = std::max(last.value_or(0), claimed.seq);
      // A claim that was cut may not have come to this lane at all.
      if (queued.cut && !last) continue;
      marks_.committed(static_cast<std::size_t>(owned.lanes[i]), claims[i],
                       {last, queued.cut, xid});
    }
  } catch (const SqlError& error) {
    if (error.sqlstate().starts_with("42")) schema_suspect_ = true;
    const FailureClass failure = classify(error.sqlstate());
    if (failure == FailureClass::outage) throw;
    store_.rollback();
    ++failures_in_a_row_;
    // Serialization trouble goes away by itself, mostly; the rest is some event's fault.
    const bool again = failure == FailureClass::batch && failures_in_a_row_ < 3;
    result.outcome = again ? BatchResult::Outcome::again : BatchResult::Outcome::careful_next;
    if (careful && alone != 0 && failure != FailureClass::batch) {
      condemned_ = alone;
      condemned_error_ = error.what();
      condemned_sqlstate_ = error.sqlstate();
    }
    if (careful && sinks_.warn)
      sinks_.warn("a batch of " + std::to_string(result.taken) +
                  " events could not be completed: " + error.what());
    return result;
  }
  failures_in_a_row_ = 0;
  if (alone == condemned_) condemned_ = 0;
  if (!outbox_.empty() && sinks_.broadcast) sinks_.broadcast(outbox_.take());
  if (result.taken > 0 && sinks_.settled) sinks_.settled();
  if (webhooks_ && sinks_.webhooks) sinks_.webhooks();
  if (sinks_.log)
    for (const auto& [event_id, entry] : logs_) sinks_.log(event_id, entry);
  return result;
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

void Batch::take_registry() {
  auto current = handlers_.current();
  // Types come from whoever inserts events, so what is remembered needs a bound.
  if (current == registry_ && handlers_by_type_.size() < 1000) return;
  handlers_by_type_.clear();
  registry_ = std::move(current);
}

const Batch::Handlers& Batch::handlers_of(const std::string& type) {
  if (const auto known = handlers_by_type_.find(type); known != handlers_by_type_.end())
    return known->second;
  Handlers found;
  for (const auto* registrations :
       {registry_->find(type), type == "*" ? nullptr : registry_->find("*")}) {
    if (registrations == nullptr) continue;
    for (const Registration& registration : *registrations) {
      found.list.push_back(&registration);
      found.reads = found.reads || !registration.reads.empty();
    }
  }
  return handlers_by_type_.emplace(type, std::move(found)).first->second;
}

// One statement per handler for all of the segment's events. In a careful batch a statement that
// fails is done again event by event, so that only the event at fault fails.
void Batch::read_declared(std::vector<Work>& work, std::size_t begin, std::size_t end,
                          bool careful) {
  std::map<const Registration*, std::vector<std::size_t>> readers;
  for (std::size_t i = begin; i < end; ++i) {
    if (work[i].state != Work::State::ready || work[i].claimed->held) continue;
    if (!work[i].handlers->reads) continue;
    work[i].data.resize(work[i].handlers->list.size());
    for (const Registration* handler : work[i].handlers->list)
      if (!handler->reads.empty()) readers[handler].push_back(i);
  }
  for (const auto& [handler, indexes] : readers) {
    const auto read = [&, handler = handler](const std::vector<std::size_t>& which) {
      std::vector<const Event*> events;
      for (const std::size_t i : which) events.push_back(&work[i].claimed->event);
      std::vector<json> rows = reads_.read(handler->reads, events);
      for (std::size_t k = 0; k < which.size(); ++k) {
        Work& item = work[which[k]];
        for (std::size_t h = 0; h < item.handlers->list.size(); ++h)
          if (item.handlers->list[h] == handler) item.data[h] = rows[k];
      }
    };
    if (!careful) {
      read(indexes);
      continue;
    }
    for (const std::size_t i : indexes) {
      if (work[i].state != Work::State::ready) continue;
      session_.exec("SAVEPOINT spillway_read");
      try {
        read({i});
        session_.exec("RELEASE SAVEPOINT spillway_read");
      } catch (const SqlError& error) {
        const FailureClass failure = classify(error.sqlstate());
        if (failure == FailureClass::outage) throw;
        session_.exec("ROLLBACK TO SAVEPOINT spillway_read; RELEASE SAVEPOINT spillway_read");
        fail(work[i], "the declared read of " + handler->origin + ": " + error.what(),
             error.sqlstate(), failure == FailureClass::deterministic);
        if (!is_final(work[i])) hold_followers(work, i);
      }
    }
  }
}

Result Batch::run_handlers(Work& work) {
  Event& event = work.claimed->event;
  const auto& handlers = work.handlers->list;
  if (handlers.empty() && options_.unhandled_is_dead)
    throw EffectError("there is no handler for type \"" + event.type + "\"");
  if (handlers.size() == 1 && work.data.empty()) {
    Result only = handlers.front()->handler(event);
    if (only.error) throw std::runtime_error(*only.error);
    return only;
  }
  Result all;
  for (std::size_t i = 0; i < handlers.size(); ++i) {
    event.data =
        i < work.data.size() && !work.data[i].is_null() ? std::move(work.data[i]) : json::array();
    Result one = handlers[i]->handler(event);
    if (one.error) throw std::runtime_error(*one.error);
    if (all.effects.empty())
      all.effects = std::move(one.effects);
    else
      std::move(one.effects.begin(), one.effects.end(), std::back_inserter(all.effects));
    if (one.response) all.response = std::move(one.response);
  }
  return all;
}

void Batch::handle(std::vector<Work>& work, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    Work& item = work[i];
    if (item.state != Work::State::ready) continue;
    if (step_ != nullptr && step_->attempted) {  // its attempt was the end of a process
      fail(item, *step_->attempted, {}, false);
      if (!is_final(item)) hold_followers(work, i);
      continue;
    }
    if (item.claimed->held) {
      item.state = Work::State::held;
      continue;
    }
    if (item.claimed->event.id == condemned_) {
      fail(item, condemned_error_, condemned_sqlstate_, true);
      continue;
    }
    try {
      if (!item.claimed->problem.empty()) throw EffectError(item.claimed->problem);
      const Event& event = item.claimed->event;
      Result answer = timed(sinks_.handling, *item.claimed, [&] { return run_handlers(item); });
      item.effects = executor_.compile(answer.effects, {event.id, event.correlation_id});
      item.response = std::move(answer.response);
    } catch (const EffectError& error) {
      fail(item, error.what(), {}, true);
    } catch (const SqlError&) {  // the catalogue could not be read: not the event's fault
      throw;
    } catch (const ConnectionLost&) {
      throw;
    } catch (const std::exception& error) {
      fail(item, std::string("the handler threw: ") + error.what(), {}, false);
    } catch (...) {
      fail(item, "the handler threw something that is not a std::exception", {}, false);
    }
    if (item.state == Work::State::failed && !is_final(item)) hold_followers(work, i);
  }
}

void Batch::apply_all(std::vector<Work>& work, std::size_t begin, std::size_t end) {
  std::vector<const CompiledEffects*> ready;
  ready.reserve(end - begin);
  for (std::size_t i = begin; i < end; ++i) {
    Work& item = work[i];
    if (item.state != Work::State::ready) continue;
    ready.push_back(&item.effects);
    item.state = Work::State::done;
  }
  executor_.apply(ready);
}

// Applies work[begin, end), halving until what fails stands alone. In order, so that an event that
// will be tried again can hold back the later ones of its stream before they are applied.
void Batch::apply_carefully(std::vector<Work>& work, std::size_t begin, std::size_t end) {
  std::vector<const CompiledEffects*> ready;
  std::size_t last = begin;
  for (std::size_t i = begin; i < end; ++i) {
    if (work[i].state != Work::State::ready) continue;
    ready.push_back(&work[i].effects);
    last = i;
  }
  if (ready.empty()) return;
  try {
    session_.exec("SAVEPOINT spillway_part");
    executor_.apply(ready);
    check_deferred_constraints();
    session_.exec("RELEASE SAVEPOINT spillway_part");
    for (std::size_t i = begin; i < end; ++i)
      if (work[i].state == Work::State::ready) work[i].state = Work::State::done;
    return;
  } catch (const SqlError& error) {
    if (classify(error.sqlstate()) == FailureClass::outage) throw;
    session_.exec("ROLLBACK TO SAVEPOINT spillway_part");
    if (error.sqlstate().starts_with("42")) schema_suspect_ = true;
    if (ready.size() == 1) return apply_alone(work, last);
    session_.exec("RELEASE SAVEPOINT spillway_part");
  }
  const std::size_t middle = begin + (end - begin) / 2;
  apply_carefully(work, begin, middle);
  apply_carefully(work, middle, end);
}

// The only event of its part, which failed as a group: once more, one effect at a time. That says
// which effect is at fault, or finds that only the grouping was (two spellings of one key).
void Batch::apply_alone(std::vector<Work>& work, std::size_t at) {
  try {
    executor_.apply_each(work[at].effects);
    check_deferred_constraints();
    session_.exec("RELEASE SAVEPOINT spillway_part");
    work[at].state = Work::State::done;
  } catch (const SqlError& error) {
    if (classify(error.sqlstate()) == FailureClass::outage) throw;
    session_.exec("ROLLBACK TO SAVEPOINT spillway_part; RELEASE SAVEPOINT spillway_part");
    const bool deterministic = classify(error.sqlstate()) == FailureClass::deterministic;
    fail(work[at], error.what(), error.sqlstate(), deterministic);
    if (!is_final(work[at])) hold_followers(work, at);
  }
}

// Constraints that are checked at COMMIT must be checked while the fault can still be pinned down.
void Batch::check_deferred_constraints() {
  if (defer_again_.empty()) {
    const Rows rows = session_.exec(
        "SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ')"
        " FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace"
        " WHERE c.condeferred");
    defer_again_ = rows.is_null(0, 0) ? "-" : "SET CONSTRAINTS " + rows.string(0, 0) + " DEFERRED";
  }
  if (defer_again_ == "-") return;
  session_.exec("SET CONSTRAINTS ALL IMMEDIATE");
  session_.exec(defer_again_);
}

void Batch::hold_followers(std::vector<Work>& work, std::size_t failed) {
  const auto& stream = work[failed].claimed->event.stream;
  if (!stream) return;
  for (std::size_t i = failed + 1; i < work.size(); ++i)
    if (work[i].claimed->event.stream == stream && work[i].state == Work::State::ready)
      work[i].state = Work::State::held;
}

void Batch::fail(Work& work, const std::string& error, std::string sqlstate, bool deterministic) {
  work.state = Work::State::failed;
  work.error = storable(describe(work.claimed->event) + error);
  work.sqlstate = std::move(sqlstate);
  work.deterministic = deterministic;
  work.effects = {};
}

int Batch::attempts_allowed(const ClaimedEvent& claimed) const {
  return claimed.max_attempts.value_or(options_.retry.max_attempts);
}

bool Batch::is_final(const Work& work) const {
  return work.deterministic || work.claimed->attempts + 1 >= attempts_allowed(*work.claimed);
}

std::uint64_t Batch::settle(std::vector<Work>& work, std::span<const ClaimedEvent> from_queue,
                            BatchResult& result) {
  std::vector<Postponed> postponed;
  std::vector<Buried> buried;
  std::vector<std::int64_t> left_waiting;   // ids that need not wait any longer
  std::unordered_set<std::string> streams;  // of which something waited
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
        if (was_waiting) left_waiting.push_back(claimed.event.id);
        outbox_.add(claimed.event.id, std::move(item.effects.broadcasts));
        if (item.response) responses.emplace_back(claimed.event.id, std::move(*item.response));
        webhooks_ = webhooks_ || item.effects.webhooks;
        for (Log& log : item.effects.logs) logs_.emplace_back(claimed.event.id, std::move(log));
        break;
      case Work::State::held:
        ++result.held;
        if (!was_waiting) postponed.push_back({&claimed, 0, std::nullopt, {}, {}, claimed.suspect});
        break;
      case Work::State::failed: {
        const int attempts = claimed.attempts + 1;
        if (is_final(item)) {
          ++result.dead;
          if (was_waiting) left_waiting.push_back(claimed.event.id);
          if (sinks_.warn) sinks_.warn("dead letter: " + item.error);
          buried.push_back({&claimed, attempts, item.error, item.sqlstate});
        } else {
          ++result.retried;
          const double share = std::uniform_real_distribution<double>(0, 1)(random_);
          const auto delay = options_.retry.delay(attempts, share);
          if (sinks_.warn)
            sinks_.warn("attempt " + std::to_string(attempts) + " of " +
                        std::to_string(attempts_allowed(claimed)) + " failed, next in " +
                        std::to_string(delay.count()) + " ms: " + item.error);
          postponed.push_back({&claimed, attempts, delay, item.error, item.sqlstate,
                               step_ != nullptr && step_->attempted});
        }
        break;
      }
    }
  }
  const std::uint64_t xid = store_.remove_from_queue(from_queue);
  store_.remove_from_waiting(left_waiting);
  store_.postpone(postponed);
  store_.bury(buried);
  store_.save_responses(responses);
  const std::vector<std::string> to_release(streams.begin(), streams.end());
  store_.release_streams(to_release);
  // Last, because it takes the lock on the head that all batches share until their COMMIT.
  outbox_.write(sinks_.others_listen && sinks_.others_listen());
  return xid;
}

}  // namespace spillway
