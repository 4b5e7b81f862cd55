#include "processor/batch.hpp"

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <unordered_set>
#include <utility>

#include "effects/effect_error.hpp"
#include "processor/migrator.hpp"
#include "processor/segments.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t longest_error = 4000;  // bytes of an error that are kept

// Where a wait has been in vain before: this share of the limits, so that finding the event that
// waits takes no longer than the wait itself did; and after so many more, hardly any wait at all.
constexpr int brief_share = 20;
constexpr int patience = 4;
constexpr milliseconds hardly{2};

// An event that only waits for somebody else's lock comes back after this long at most.
constexpr milliseconds longest_lock_delay{30'000};

// Between two statements a session that owns lanes must not look like that of a frozen process.
constexpr milliseconds touch_interval{1000};

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
      random_(seed) {}

BatchResult Batch::run(std::span<const int> order, std::size_t lanes, std::size_t limit,
                       bool careful) {
  BatchResult result;
  std::int64_t alone = 0;  // the event of a batch of one
  std::uint64_t xid = 0;
  take_registry();
  waits_in_vain_ = 0;
  began_ = steady_clock::now();
  outbox_.clear();
  logs_.clear();
  webhooks_ = false;
  if (std::exchange(schema_suspect_, false)) executor_.forget_schema();
  store_.begin();
  try {
    const OwnedLanes owned = store_.own_lanes(order, lanes);
    result.xmin = owned.xmin;
    result.armed = owned.armed;
    if (owned.schema_version > newest_schema_version()) {
      store_.rollback();
      throw newer_than_binary(owned.schema_version);
    }
    if (owned.lanes.empty()) {
      store_.rollback();
      return result;
    }
    if (owned.scheduled_due) {
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
    if (owned.waiting_due && !std::exchange(queue_only_, false))
      waited = store_.claim_waiting(owned.lanes, limit);
    QueueStore::QueueClaim queued;
    queued.cut = true;
    if (waited.size() < limit)
      queued = store_.claim_queue(owned.lanes, from, limit - waited.size(), options_.bytes);
    result.taken = waited.size() + queued.events.size();

    // Those that are tried again may well be those that wait for somebody.
    if (timed_out_ || !waited.empty()) wait_briefly();

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
    store_.commit();
    result.waited_in_vain = waits_in_vain_ > 0;
    // Many that wait for locks must not keep the new ones waiting.
    queue_only_ = result.waited_in_vain && !waited.empty();

    // Moving scheduled events gave the transaction its xid before the read.
    if (result.scheduled_moved) xid = 0;
    // Every owned lane counts, also those in which nothing was found.
    for (std::size_t i = 0; i < owned.lanes.size(); ++i) {
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
    timed_out_ = failure == FailureClass::timeout;
    result.waited_in_vain = error.sqlstate() == lock_not_available;
    result.outcome = again ? BatchResult::Outcome::again : BatchResult::Outcome::careful_next;
    if (careful && alone != 0 && failure != FailureClass::batch &&
        failure != FailureClass::timeout) {
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
  timed_out_ = false;
  if (alone == condemned_) condemned_ = 0;
  if (!outbox_.empty() && sinks_.broadcast) sinks_.broadcast(outbox_.take());
  if (result.taken > 0 && sinks_.settled) sinks_.settled();
  if (webhooks_ && sinks_.webhooks) sinks_.webhooks();
  if (sinks_.log)
    for (const auto& [event_id, entry] : logs_) sinks_.log(event_id, entry);
  return result;
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
        waited_in_vain(error);
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
  last_statement_ = steady_clock::now();
  for (std::size_t i = begin; i < end; ++i) {
    Work& item = work[i];
    if (item.state != Work::State::ready) continue;
    if (item.claimed->held) {
      item.state = Work::State::held;
      continue;
    }
    if (item.claimed->event.id == condemned_) {
      fail(item, condemned_error_, condemned_sqlstate_, true);
      continue;
    }
    stay_in_touch();
    try {
      if (!item.claimed->problem.empty()) throw EffectError(item.claimed->problem);
      const Event& event = item.claimed->event;
      Result answer = run_handlers(item);
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
  // Half as many the next time; one alone always comes to an end.
  if (options_.batch_timeout.count() > 0 && work.size() > 1 &&
      steady_clock::now() - began_ > options_.batch_timeout)
    throw SqlError(std::string(query_canceled), "the batch has taken longer than --batch-timeout");
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
    const bool waited = error.sqlstate() == lock_not_available;
    if (ready.size() == 1 && !(waited && waits_in_vain_ > patience)) return apply_alone(work, last);
    session_.exec("RELEASE SAVEPOINT spillway_part");
    waited_in_vain(error);
    if (ready.size() == 1) {  // which of its effects waits is not worth another wait
      fail(work[last], error.what(), error.sqlstate(), false);
      return hold_followers(work, last);
    }
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
    waited_in_vain(error);
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

void Batch::wait_briefly() {
  std::string settings;
  const auto set = [&settings](const char* name, milliseconds limit) {
    if (limit.count() > 0)
      settings += "SET LOCAL " + std::string(name) + " = " +
                  std::to_string(std::max<milliseconds::rep>(1, limit.count() / brief_share)) + ";";
  };
  set("lock_timeout", options_.lock_timeout);
  set("statement_timeout", timed_out_ ? options_.batch_timeout : milliseconds(0));
  if (!settings.empty()) session_.exec(settings);
}

// So that many events that wait for one lock do not hold the lanes for the sum of their waits.
// Outside of savepoints, which would take the setting back.
void Batch::waited_in_vain(const SqlError& error) {
  if (error.sqlstate() != lock_not_available || ++waits_in_vain_ != patience) return;
  session_.exec("SET LOCAL lock_timeout = " +
                std::to_string(std::clamp<milliseconds::rep>(
                    options_.lock_timeout.count() / brief_share, 1, hardly.count())));
}

void Batch::stay_in_touch() {
  const auto now = steady_clock::now();
  if (now - last_statement_ < touch_interval) return;
  session_.exec("SELECT 1");
  last_statement_ = now;
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

// Whoever holds a lock is to blame for a wait, not the event: that is never its last attempt.
bool Batch::is_final(const Work& work) const {
  if (work.sqlstate == lock_not_available) return false;
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
        if (!was_waiting) postponed.push_back({&claimed, 0, std::nullopt, {}, {}});
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
          auto delay = options_.retry.delay(attempts, share);
          if (item.sqlstate == lock_not_available) delay = std::min(delay, longest_lock_delay);
          if (sinks_.warn)
            sinks_.warn("attempt " + std::to_string(attempts) + " of " +
                        std::to_string(attempts_allowed(claimed)) + " failed, next in " +
                        std::to_string(delay.count()) + " ms: " + item.error);
          postponed.push_back({&claimed, attempts, delay, item.error, item.sqlstate});
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
