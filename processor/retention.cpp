#include "processor/retention.hpp"

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Partitions by age are a sixth of it, so that what is too old stays below a sixth of it.
constexpr int partitions_per_age = 6;
constexpr std::int64_t fewest_rows = 100;
constexpr std::int64_t most_rows = 1'000'000;

// What stream servers of other processes have not read within this time, they read late anyhow, and
// are told that it is gone.
constexpr const char* settled = "5 seconds";

// How often the upkeep of a worker looks for events, and from the oldest one again.
constexpr milliseconds events_interval{60'000};
constexpr std::chrono::hours whole_walk{24};

const Statement extend_sql{"", R"(
SELECT spillway.extend_broadcasts($1::bigint, clock_timestamp() - $2::bigint * interval '1 millisecond'))"};

const Statement drop_sql{"", R"(
SELECT spillway.drop_broadcasts(clock_timestamp() - $1::bigint * interval '1 millisecond', $2::bigint,
                                clock_timestamp() - $3::interval))"};

const Statement note_floors_sql{"", R"(
SELECT spillway.note_channel_floors(clock_timestamp() - $1::bigint * interval '1 millisecond', $2::bigint,
                                    clock_timestamp() - $3::interval, $4::bigint))"};

const Statement keep_latest_sql{"", R"(
SELECT spillway.keep_latest_broadcasts(clock_timestamp() - $1::bigint * interval '1 millisecond', $2::bigint,
                                       clock_timestamp() - $3::interval))"};

const Statement time_sql{"", "SELECT clock_timestamp() - $1::bigint * interval '1 millisecond'"};

const Statement prune_events_sql{"", R"(
SELECT last_id, looked_at, recent, pruned
FROM spillway.prune_events($1::timestamptz, $2::bigint, $3::int, $4::boolean, $5::boolean))"};

const Statement created_at_or_after{"", R"(
SELECT created_at < $2::timestamptz FROM spillway.events WHERE id >= $1::bigint ORDER BY id LIMIT 1)"};

const Statement count_webhooks{"", R"(
SELECT count(*) FROM (SELECT FROM spillway.webhooks WHERE finished_at < $1::timestamptz LIMIT $2::int) w)"};
const Statement prune_webhooks_sql{"", R"(
DELETE FROM spillway.webhooks WHERE id = ANY (ARRAY(
  SELECT id FROM spillway.webhooks WHERE finished_at < $1::timestamptz
  ORDER BY finished_at LIMIT $2::int FOR UPDATE SKIP LOCKED)))"};

const Statement count_results{"", R"(
SELECT count(*) FROM (SELECT FROM spillway.results WHERE created_at < $1::timestamptz LIMIT $2::int) r)"};
const Statement prune_results_sql{"", R"(
DELETE FROM spillway.results WHERE event_id = ANY (ARRAY(
  SELECT event_id FROM spillway.results WHERE created_at < $1::timestamptz
  ORDER BY created_at LIMIT $2::int FOR UPDATE SKIP LOCKED)))"};

std::string text_of(milliseconds age) {
  return std::to_string(age.count());
}

using Again = std::optional<milliseconds>;

// A try that fails may have made others wait for a moment, so the next looks pass without one.
std::function<Again(SqlSession&)> patiently(
    std::function<RetentionStore::Outcome(SqlSession&)> step) {
  return [step = std::move(step), pass = 0](SqlSession& session) mutable -> Again {
    if (pass > 0) {
      --pass;
      return std::nullopt;
    }
    switch (step(session)) {
      case RetentionStore::Outcome::done:
        return milliseconds(0);
      case RetentionStore::Outcome::busy:
        pass = 4;
        break;
      case RetentionStore::Outcome::nothing:
        break;
    }
    return std::nullopt;
  };
}

}  // namespace

std::int64_t partition_rows(const RetentionOptions& options) {
  if (!options.broadcasts_count) return most_rows;
  return std::clamp(*options.broadcasts_count / 10, fewest_rows, most_rows);
}

milliseconds pause_after(steady_clock::duration took) {
  return std::chrono::ceil<milliseconds>(took * 4);
}

RetentionStore::Outcome RetentionStore::extend_broadcasts(std::int64_t rows,
                                                          std::optional<milliseconds> age) {
  const std::string age_text = age ? text_of(*age) : "";
  const Rows answer =
      session_.run(extend_sql, {std::to_string(rows).c_str(), age ? age_text.c_str() : nullptr});
  if (answer.is_null(0, 0)) return Outcome::busy;
  return answer.boolean(0, 0) ? Outcome::done : Outcome::nothing;
}

RetentionStore::Outcome RetentionStore::drop_broadcasts(std::optional<milliseconds> age,
                                                        std::optional<std::int64_t> count,
                                                        std::int64_t channel_floors) {
  const std::string age_text = age ? text_of(*age) : "";
  const std::string count_text = count ? std::to_string(*count) : "";
  const char* const before = age ? age_text.c_str() : nullptr;
  const char* const keep = count ? count_text.c_str() : nullptr;
  std::exception_ptr not_noted;
  try {
    if (session_.run(keep_latest_sql, {before, keep, settled}).is_null(0, 0)) return Outcome::busy;
    if (channel_floors > 0 &&
        session_
            .run(note_floors_sql, {before, keep, settled, std::to_string(channel_floors).c_str()})
            .is_null(0, 0))
      return Outcome::busy;
  } catch (const SqlError&) {
    // The table must not grow for it: what is dropped without a note resets whoever comes for it.
    not_noted = std::current_exception();
  }
  const Rows rows = session_.run(drop_sql, {before, keep, settled});
  if (not_noted) std::rethrow_exception(not_noted);
  if (rows.is_null(0, 0)) return Outcome::busy;
  return rows.integer(0, 0) > 0 ? Outcome::done : Outcome::nothing;
}

std::string RetentionStore::time_before_now(milliseconds age) {
  return session_.run(time_sql, {text_of(age).c_str()}).string(0, 0);
}

std::size_t RetentionStore::prune_webhooks(const std::string& before, std::size_t most,
                                           bool dry_run) {
  const Rows rows = session_.run(dry_run ? count_webhooks : prune_webhooks_sql,
                                 {before.c_str(), std::to_string(most).c_str()});
  return dry_run ? rows.integer<std::size_t>(0, 0) : rows.affected();
}

std::size_t RetentionStore::prune_results(const std::string& before, std::size_t most,
                                          bool dry_run) {
  const Rows rows = session_.run(dry_run ? count_results : prune_results_sql,
                                 {before.c_str(), std::to_string(most).c_str()});
  return dry_run ? rows.integer<std::size_t>(0, 0) : rows.affected();
}

RetentionStore::OldBroadcasts RetentionStore::old_broadcasts(const std::string& before) {
  OldBroadcasts old;
  const Rows partitions = session_.exec(
      "SELECT p.partition, least(coalesce(p.last, h.last), h.last)"
      "                    - greatest(coalesce(p.first, 1), h.floor + 1) + 1, p.bytes"
      " FROM spillway.broadcast_partitions p, spillway.stream_head h"
      " WHERE coalesce(p.first, 1) <= h.last ORDER BY p.last");
  for (std::size_t row = 0; row < partitions.size(); ++row) {
    const Rows young =
        session_.run({"", "SELECT created_at >= $1::timestamptz FROM " + partitions.string(row, 0) +
                              " ORDER BY position DESC LIMIT 1"},
                     {before.c_str()});
    if (!young.empty() && young.boolean(0, 0)) break;
    old.positions += partitions.integer(row, 1);
    old.bytes += partitions.integer(row, 2);
  }
  return old;
}

EventPruner::Step EventPruner::step(SqlSession& session) {
  const Rows rows =
      session.run(prune_events_sql, {options_.before.c_str(), std::to_string(last_id_).c_str(),
                                     std::to_string(options_.batch).c_str(),
                                     options_.dead ? "t" : "f", options_.dry_run ? "t" : "f"});
  Step step;
  if (rows.is_null(0, 0)) {
    step.busy = true;
    return step;
  }
  last_id_ = rows.integer(0, 0);
  step.looked_at = rows.integer(0, 1);
  step.pruned = rows.integer(0, 3);
  // Ids are drawn in the order of time, nearly: a whole step of recent events is the end.
  step.last = step.looked_at < static_cast<std::int64_t>(options_.batch) ||
              rows.integer(0, 2) == step.looked_at;
  return step;
}

std::int64_t EventPruner::end(SqlSession& session) const {
  std::int64_t low = last_id_ + 1;
  std::int64_t high =
      session.exec("SELECT coalesce(max(id), 0) + 1 FROM spillway.events").integer(0, 0);
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    const Rows rows =
        session.run(created_at_or_after, {std::to_string(middle).c_str(), options_.before.c_str()});
    if (!rows.empty() && rows.boolean(0, 0))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

std::vector<MaintenanceTask> retention_upkeep(const RetentionOptions& options) {
  std::vector<MaintenanceTask> tasks;

  tasks.push_back(
      {"making room for broadcasts", milliseconds(1000), patiently([options](SqlSession& session) {
         std::optional<milliseconds> age;
         if (options.broadcasts) age = *options.broadcasts / partitions_per_age;
         return RetentionStore(session).extend_broadcasts(partition_rows(options), age);
       })});

  if (options.broadcasts || options.broadcasts_count)
    tasks.push_back(
        {"dropping old broadcasts", milliseconds(2000), patiently([options](SqlSession& session) {
           return RetentionStore(session).drop_broadcasts(
               options.broadcasts, options.broadcasts_count, options.channel_floors);
         })});

  if (options.webhooks)
    tasks.push_back(
        {"removing old webhooks", milliseconds(10'000), [options](SqlSession& session) -> Again {
           const auto begin = steady_clock::now();
           RetentionStore store(session);
           const std::size_t removed =
               store.prune_webhooks(store.time_before_now(*options.webhooks), options.batch);
           if (removed < options.batch) return std::nullopt;
           return pause_after(steady_clock::now() - begin);
         }});

  if (options.events) {
    // What stays behind at a walk (an event that was not done yet, the newest of its stream) is
    // looked at again once a day.
    struct Walk {
      std::int64_t after = 0;
      std::optional<steady_clock::time_point> began;
    };
    tasks.push_back({"removing old events", events_interval,
                     [options, walk = std::make_shared<Walk>()](SqlSession& session) -> Again {
                       const auto begin = steady_clock::now();
                       if (!walk->began || begin - *walk->began > whole_walk) *walk = {0, begin};
                       EventPruner pruner({RetentionStore(session).time_before_now(*options.events),
                                           options.batch, false, false},
                                          walk->after);
                       const auto step = pruner.step(session);
                       // A recent one may have been passed by on the way to the end.
                       if (step.busy || step.last) return std::nullopt;
                       walk->after = pruner.last_id();
                       return pause_after(steady_clock::now() - begin);
                     }});
  }
  return tasks;
}

}  // namespace spillway
