#include "processor/handling.hpp"

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <utility>

#include "effects/effect_error.hpp"
#include "processor/handlers_of_type.hpp"
#include "processor/retry_policy.hpp"
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

// Between two statements a session that owns lanes must not look like that of a frozen process.
constexpr milliseconds touch_interval{1000};

std::string describe(const Event& event) {
  return "event " + std::to_string(event.id) + " (" + event.type + "): ";
}

// The time of an event's handlers, however they end.
class HandlerTime {
 public:
  HandlerTime(TypeMeter* meter, steady_clock::time_point begin) : meter_(meter), begin_(begin) {}
  HandlerTime(const HandlerTime&) = delete;
  HandlerTime& operator=(const HandlerTime&) = delete;
  ~HandlerTime() {
    if (meter_ == nullptr) return;
    const std::chrono::nanoseconds time = steady_clock::now() - begin_;
    meter_->handler_time.observe(static_cast<std::uint64_t>(time.count()));
  }

 private:
  TypeMeter* meter_;
  steady_clock::time_point begin_;
};

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

Handling::Handling(SqlSession& session, const HandlerSet& handlers, HandlingOptions options)
    : session_(session),
      handlers_(handlers),
      options_(std::move(options)),
      reads_(session),
      executor_(session) {}

void Handling::begin() {
  take_registry();
  if (std::exchange(schema_suspect_, false)) executor_.forget_schema();
  waits_in_vain_ = 0;
  began_ = steady_clock::now();
}

void Handling::run(std::vector<Work>& work, bool careful, const std::string* attempted) {
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
    if (reads && attempted == nullptr) read_declared(work, begin, end, careful);
    handle(work, begin, end, attempted);
    if (!options_.apply) continue;
    if (careful)
      apply_carefully(work, begin, end);
    else
      apply_all(work, begin, end);
  }
}

void Handling::refused(const SqlError& error) {
  if (error.sqlstate().starts_with("42")) schema_suspect_ = true;
}

void Handling::condemn(std::int64_t event_id, const SqlError& error) {
  condemned_ = event_id;
  condemned_error_ = error.what();
  condemned_sqlstate_ = error.sqlstate();
}

void Handling::take_registry() {
  auto current = handlers_.current();
  // Types come from whoever inserts events, so what is remembered needs a bound.
  if (current == registry_ && handlers_by_type_.size() < 1000) return;
  handlers_by_type_.clear();
  registry_ = std::move(current);
}

const TypeHandlers& Handling::handlers_of(const std::string& type) {
  if (const auto known = handlers_by_type_.find(type); known != handlers_by_type_.end())
    return known->second;
  TypeHandlers found{handlers_of_type(*registry_, type)};
  for (const Registration* registration : found.list)
    found.reads = found.reads || !registration->reads.empty();
  const bool named = registry_->find(type) != nullptr || type.starts_with(own_types_prefix);
  if (options_.meter != nullptr) found.meter = &options_.meter->of(type, named);
  return handlers_by_type_.emplace(type, std::move(found)).first->second;
}

// One statement per handler for all of the segment's events. In a careful batch a statement that
// fails is done again event by event, so that only the event at fault fails.
void Handling::read_declared(std::vector<Work>& work, std::size_t begin, std::size_t end,
                             bool careful) {
  std::map<const Registration*, std::vector<std::size_t>> readers;
  for (std::size_t i = begin; i < end; ++i) {
    if (work[i].state != Work::State::ready || work[i].claimed->held) continue;
    if (!work[i].handlers->reads || work[i].claimed->discarded) continue;
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
        fail(work, i, "the declared read of " + handler->origin + ": " + error.what(),
             error.sqlstate(), failure == FailureClass::deterministic);
      }
    }
  }
}

Result Handling::run_handlers(Work& work) {
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

void Handling::handle(std::vector<Work>& work, std::size_t begin, std::size_t end,
                      const std::string* attempted) {
  last_statement_ = steady_clock::now();
  for (std::size_t i = begin; i < end; ++i) {
    Work& item = work[i];
    if (item.state != Work::State::ready) continue;
    if (attempted != nullptr) {
      fail(work, i, *attempted, {}, false);
      continue;
    }
    if (item.claimed->held) {
      item.state = Work::State::held;
      continue;
    }
    if (item.claimed->discarded) {
      item.state = Work::State::done;
      continue;
    }
    if (item.claimed->event.id == condemned_) {
      fail(work, i, condemned_error_, condemned_sqlstate_, true);
      continue;
    }
    const auto now = stay_in_touch();
    try {
      if (!item.claimed->problem.empty()) throw EffectError(item.claimed->problem);
      const Event& event = item.claimed->event;
      Result answer = timed(options_.slot, *item.claimed, [&] {
        const HandlerTime time(item.handlers->meter, now);
        return run_handlers(item);
      });
      for (const Effect& effect : answer.effects) ++item.asked[effect.index()];
      item.effects =
          executor_.compile(answer.effects, {event.id, event.correlation_id}, options_.kinds);
      item.response = std::move(answer.response);
    } catch (const EffectError& error) {
      fail(work, i, error.what(), {}, true);
    } catch (const SqlError&) {  // the catalogue could not be read: not the event's fault
      throw;
    } catch (const ConnectionLost&) {
      throw;
    } catch (const std::exception& error) {
      fail(work, i, std::string("the handler threw: ") + error.what(), {}, false);
    } catch (...) {
      fail(work, i, "the handler threw something that is not a std::exception", {}, false);
    }
  }
}

void Handling::apply_all(std::vector<Work>& work, std::size_t begin, std::size_t end) {
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
void Handling::apply_carefully(std::vector<Work>& work, std::size_t begin, std::size_t end) {
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
    refused(error);
    const bool waited = error.sqlstate() == lock_not_available;
    if (ready.size() == 1 && !(waited && waits_in_vain_ > patience)) return apply_alone(work, last);
    session_.exec("RELEASE SAVEPOINT spillway_part");
    waited_in_vain(error);
    // Which of its effects waits is not worth another wait.
    if (ready.size() == 1) return fail(work, last, error.what(), error.sqlstate(), false);
  }
  const std::size_t middle = begin + (end - begin) / 2;
  apply_carefully(work, begin, middle);
  apply_carefully(work, middle, end);
}

// The only event of its part, which failed as a group: once more, one effect at a time. That says
// which effect is at fault, or finds that only the grouping was (two spellings of one key).
void Handling::apply_alone(std::vector<Work>& work, std::size_t at) {
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
    fail(work, at, error.what(), error.sqlstate(), deterministic);
  }
}

// Constraints that are checked at COMMIT must be checked while the fault can still be pinned down.
void Handling::check_deferred_constraints() {
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

void Handling::wait_briefly(bool after_timeout) {
  std::string settings;
  const auto set = [&settings](const char* name, milliseconds limit) {
    if (limit.count() > 0)
      settings += "SET LOCAL " + std::string(name) + " = " +
                  std::to_string(std::max<milliseconds::rep>(1, limit.count() / brief_share)) + ";";
  };
  set("lock_timeout", options_.lock_timeout);
  set("statement_timeout", after_timeout ? options_.batch_timeout : milliseconds(0));
  if (!settings.empty()) session_.exec(settings);
}

// So that many events that wait for one lock do not hold the lanes for the sum of their waits.
// Outside of savepoints, which would take the setting back.
void Handling::waited_in_vain(const SqlError& error) {
  if (error.sqlstate() != lock_not_available || ++waits_in_vain_ != patience) return;
  if (options_.lock_timeout.count() == 0) return;
  session_.exec("SET LOCAL lock_timeout = " +
                std::to_string(std::clamp<milliseconds::rep>(
                    options_.lock_timeout.count() / brief_share, 1, hardly.count())));
}

steady_clock::time_point Handling::stay_in_touch() {
  const auto now = steady_clock::now();
  if (now - last_statement_ < touch_interval) return now;
  session_.exec("SELECT 1");
  last_statement_ = now;
  return steady_clock::now();
}

void Handling::fail(std::vector<Work>& work, std::size_t at, const std::string& error,
                    std::string sqlstate, bool deterministic) {
  Work& item = work[at];
  item.state = Work::State::failed;
  item.error = storable(describe(item.claimed->event) + error);
  item.sqlstate = std::move(sqlstate);
  item.deterministic = deterministic;
  item.effects = {};
  if (options_.failed) options_.failed(work, at);
}

}  // namespace spillway
