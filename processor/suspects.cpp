#include "processor/suspects.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <unordered_map>

namespace spillway {
namespace {

const Statement notes_sql{"sw_suspect_notes", R"(
SELECT s.event_id, s.crashes, coalesce(s.worker, 0),
       EXISTS (SELECT FROM spillway.live_workers w WHERE w.id = s.worker),
       s.server_started = pg_postmaster_start_time(),
       s.recorded_at > clock_timestamp() - interval '30 seconds',
       coalesce(s.process, ''), coalesce(s.error, '')
FROM spillway.suspects s WHERE s.lane = $1::smallint)"};

const Statement until_sql{"sw_suspicion_until", R"(
SELECT until_seq FROM spillway.suspicion WHERE lane = $1::smallint)"};

// The notes' meaning, written down: an event that has to run alone, or has had its attempt, or
// nothing.
const Statement settle_notes_sql{"sw_settle_notes", R"(
UPDATE spillway.suspects SET worker = NULL, crashes = $2::smallint
WHERE event_id = ANY ($1::bigint[]))"};

const Statement drop_notes_sql{"sw_drop_notes", R"(
DELETE FROM spillway.suspects WHERE event_id = ANY ($1::bigint[]))"};

// The lane has to stay under suspicion as long as there are notes in it.
const Statement record_sql{"sw_record_suspects", R"(
WITH lane AS (
  INSERT INTO spillway.suspicion (lane, until_seq) VALUES ($2::smallint, 0) ON CONFLICT DO NOTHING)
INSERT INTO spillway.suspects (event_id, lane, crashes, worker, process)
SELECT id, $2::smallint, $3::smallint, $4::bigint, $5 FROM unnest($1::bigint[]) AS id
ON CONFLICT (event_id) DO UPDATE
SET crashes = excluded.crashes, worker = excluded.worker, process = excluded.process, error = NULL,
    server_started = excluded.server_started, recorded_at = excluded.recorded_at)"};

const Statement drop_recorded_sql{"sw_drop_recorded", R"(
DELETE FROM spillway.suspects
WHERE event_id = ANY ($1::bigint[]) AND worker IS NOT DISTINCT FROM $2::bigint)"};

// What is noted and still waits keeps its mark there; what is neither queued up to the suspicion's
// end nor waiting has been settled.
const Statement mark_waiting_sql{"sw_mark_waiting_suspects", R"(
UPDATE spillway.waiting w SET suspect = true
FROM spillway.suspects s WHERE s.lane = $1::smallint AND w.event_id = s.event_id)"};
const Statement end_notes_sql{"sw_end_notes",
                              "DELETE FROM spillway.suspects WHERE lane = $1::smallint"};
const Statement end_suspicion_sql{"sw_end_suspicion", R"(
DELETE FROM spillway.suspicion WHERE lane = $1::smallint AND until_seq = $2::bigint)"};

const Statement remove_ended_sql{"sw_remove_ended_workers", R"(
DELETE FROM spillway.workers w
WHERE NOT EXISTS (SELECT FROM spillway.live_workers l WHERE l.id = w.id)
RETURNING runners, most_events, format('pid %s on %s', pid, host))"};

// A batch takes the first events of its lanes, so a dead one's are still the first ones there. Of
// those with a priority it may have been any.
const Statement suspect_lanes_sql{"sw_suspect_lanes", R"(
INSERT INTO spillway.suspicion (lane, until_seq)
SELECT l.lane, greatest(0, (SELECT max(r.seq) FROM (
         SELECT q.seq FROM spillway.queue q WHERE q.lane = l.lane ORDER BY q.seq LIMIT $1::int) r),
         (SELECT max(r.seq) FROM spillway.ranked r WHERE r.lane = l.lane))
FROM generate_series(0, spillway.lane_count() - 1) AS l(lane)
ON CONFLICT (lane) DO UPDATE SET until_seq = greatest(suspicion.until_seq, excluded.until_seq))"};

const Statement tell_end_sql{"sw_tell_end", R"(
UPDATE spillway.suspects SET error = $2 WHERE process = $1 AND worker IS NOT NULL)"};

const Statement still_lives_sql{"sw_still_lives", R"(
SELECT EXISTS (SELECT FROM spillway.live_workers WHERE format('pid %s on %s', pid, host) = $1))"};

// Of an event whose lane its process maybe does not own any more, so the lane is looked up.
const Statement blame_sql{"sw_blame", R"(
WITH event AS MATERIALIZED (
  SELECT spillway.lane_of(stream, id) AS lane FROM spillway.events WHERE id = $1::bigint),
lane AS (
  INSERT INTO spillway.suspicion (lane, until_seq) SELECT lane, $2::bigint FROM event
  ON CONFLICT (lane) DO UPDATE SET until_seq = greatest(suspicion.until_seq, excluded.until_seq))
INSERT INTO spillway.suspects (event_id, lane, crashes, error)
SELECT $1::bigint, lane, 1, $3 FROM event
ON CONFLICT (event_id) DO UPDATE SET crashes = 1, worker = NULL, error = excluded.error)"};

// How long a step waits for the batches of its process. They may be waiting for somebody's lock;
// then the lane's turn comes later.
constexpr std::chrono::milliseconds longest_wait{1000};

bool contains(const std::vector<std::int64_t>& sorted, std::int64_t id) {
  return std::binary_search(sorted.begin(), sorted.end(), id);
}

}  // namespace

NoteMeans meaning_of(const SuspectNote& note, std::int64_t own) {
  const NoteMeans settled = note.crashes > 0 ? NoteMeans::attempted : NoteMeans::alone;
  if (note.worker == 0) return settled;
  // The step of a process that lives was rolled back.
  if (note.worker == own) return NoteMeans::nothing;
  // The server's end was the step's end, whatever became of the process.
  if (!note.same_server) return NoteMeans::nothing;
  if (!note.worker_lives) return settled;
  // Between its two transactions a step holds no lock. It is not there for long.
  return note.recent ? NoteMeans::busy : NoteMeans::nothing;
}

std::string error_of(const SuspectNote& note) {
  if (note.worker == 0 && !note.error.empty()) return note.error;
  std::string text = "the process ended while this event was being handled";
  if (!note.process.empty())
    text += ": " + note.process + " " +
            (note.error.empty() ? "crashed or was killed, see its log" : note.error);
  return text;
}

SuspectGroup choose_group(std::span<const SuspectCandidate> claim, std::size_t most) {
  if (claim.empty()) return {};
  if (claim.front().attempted) return {1, true};
  if (claim.front().alone) return {1, false};
  const auto first = std::find_if(claim.begin(), claim.end(), [](const SuspectCandidate& event) {
    return event.alone || event.attempted;
  });
  return {std::min(static_cast<std::size_t>(first - claim.begin()), most), false};
}

SuspectsShared::SuspectsShared(std::function<std::int64_t()> worker_id)
    : worker_id_(std::move(worker_id)), process_(process_name(getpid())) {}

SuspectsShared::Turn SuspectsShared::begin_batch() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !step_ && steps_wanted_ == 0; });
  ++batches_;
  return {this, false};
}

SuspectsShared::Turn SuspectsShared::begin_step(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  ++steps_wanted_;
  const bool free = changed_.wait_for(lock, most, [this] { return !step_ && batches_ == 0; });
  --steps_wanted_;
  if (free) {
    step_ = true;
    return {this, true};
  }
  changed_.notify_all();
  return {};
}

void SuspectsShared::end(bool alone) {
  {
    const std::scoped_lock lock(mutex_);
    if (alone)
      step_ = false;
    else
      --batches_;
    if (!alone && steps_wanted_ == 0) return;
  }
  changed_.notify_all();
}

Suspects::Prepared Suspects::prepare(std::span<const int> lanes, LaneMarks& marks, std::size_t most,
                                     std::size_t bytes) {
  Prepared prepared;
  if (shared_->worker_id() == 0) return prepared;  // its notes would say nothing
  prepared.turn = shared_->begin_step(longest_wait);
  if (!prepared.turn) return prepared;
  for (const int lane : lanes)
    if (prepare_lane(lane, marks, std::min(most, most_suspects), bytes, prepared)) break;
  return prepared;
}

bool Suspects::prepare_lane(int lane, LaneMarks& marks, std::size_t most, std::size_t bytes,
                            Prepared& prepared) {
  QueueStore store(session_);
  // Notes need not outlive the server: what it had in hand when it ended tells nothing.
  session_.exec("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off");
  const OwnedLanes owned = store.own_lanes({&lane, 1}, 1);
  if (owned.lanes.empty()) {
    store.rollback();
    return false;
  }
  const std::string lane_text = std::to_string(lane);
  const Rows rows = session_.run(notes_sql, {lane_text.c_str()});
  std::vector<std::int64_t> alone, attempted, nothing, was_alone;
  std::unordered_map<std::int64_t, std::string> errors;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    SuspectNote note;
    note.event_id = rows.integer(row, 0);
    note.crashes = rows.integer<int>(row, 1);
    note.worker = rows.integer(row, 2);
    note.worker_lives = rows.boolean(row, 3);
    note.same_server = rows.boolean(row, 4);
    note.recent = rows.boolean(row, 5);
    note.process = rows.string(row, 6);
    note.error = rows.string(row, 7);
    switch (meaning_of(note, shared_->worker_id())) {
      case NoteMeans::busy:
        store.rollback();
        return false;
      case NoteMeans::nothing:
        // Who was alone had a reason to be, and still has.
        (note.crashes > 0 ? was_alone : nothing).push_back(note.event_id);
        break;
      case NoteMeans::alone:
        alone.push_back(note.event_id);
        break;
      case NoteMeans::attempted:
        attempted.push_back(note.event_id);
        errors[note.event_id] = error_of(note);
        break;
    }
  }
  alone.insert(alone.end(), was_alone.begin(), was_alone.end());
  for (auto* ids : {&alone, &attempted}) std::sort(ids->begin(), ids->end());

  const Rows until = session_.run(until_sql, {lane_text.c_str()});
  const std::uint64_t until_seq = until.empty() ? 0 : until.integer<std::uint64_t>(0, 0);
  std::vector<ClaimedEvent> claim;
  if (owned.waiting_due) claim = store.claim_waiting(owned.lanes, most);
  const bool more_waiting = claim.size() >= most;
  bool in_range = false;
  if (!more_waiting) {
    const std::uint64_t from = marks.begin(static_cast<std::size_t>(lane), owned.xmin).from;
    auto queued = claim_queue(store, owned, {{from}, {from}, {}}, most - claim.size(), bytes);
    for (ClaimedEvent& event : queued.events) {
      // Behind the end of the suspicion only what is noted.
      if (event.seq > until_seq && !contains(alone, event.event.id) &&
          !contains(attempted, event.event.id))
        continue;
      in_range = true;
      claim.push_back(std::move(event));
    }
  }

  std::vector<SuspectCandidate> candidates;
  candidates.reserve(claim.size());
  for (const ClaimedEvent& event : claim)
    candidates.push_back({event.event.id, event.suspect || contains(alone, event.event.id),
                          contains(attempted, event.event.id)});
  const SuspectGroup group = choose_group(candidates, most);

  // The notes as they are understood now, so that nobody has to understand them again.
  if (!nothing.empty()) session_.run(drop_notes_sql, {integer_array(nothing).c_str()});
  if (!alone.empty()) session_.run(settle_notes_sql, {integer_array(alone).c_str(), "0"});
  for (const std::int64_t id : attempted)
    session_.run(blame_sql, {std::to_string(id).c_str(), "0", errors.at(id).c_str()});

  if (group.size == 0) {
    end_suspicion(lane, until_seq);
    prepared.moved = true;
    store.commit();
    return true;
  }
  SuspectStep step;
  step.lane = lane;
  step.until_seq = until_seq;
  step.last = !in_range && !more_waiting && group.size == claim.size() && !group.attempted;
  for (std::size_t i = 0; i < group.size; ++i) {
    step.event_ids.push_back(candidates[i].event_id);
    if (candidates[i].alone) step.alone.push_back(candidates[i].event_id);
  }
  std::sort(step.event_ids.begin(), step.event_ids.end());
  if (group.attempted)
    step.attempted = errors.at(step.event_ids.front());
  else
    session_.run(
        record_sql,
        {integer_array(step.event_ids).c_str(), lane_text.c_str(), group.size == 1 ? "1" : "0",
         std::to_string(shared_->worker_id()).c_str(), shared_->process().c_str()});
  prepared.step = std::move(step);
  store.commit();
  return true;
}

QueueStore::QueueClaim Suspects::claim_queue(QueueStore& store, const OwnedLanes& owned,
                                             const LaneStarts& starts, std::size_t limit,
                                             std::size_t bytes) {
  if (!owned.ranked) {
    QueueStore::QueueClaim queued = store.claim_queue(owned.lanes, starts, limit, bytes);
    if (!queued.ranked_left) return queued;
  }
  return store.claim_ranked(owned.lanes, starts, limit, bytes, Turn::oldest);
}

void Suspects::end_suspicion(int lane, std::uint64_t until_seq) {
  const std::string text = std::to_string(lane);
  const Rows ended =
      session_.run(end_suspicion_sql, {text.c_str(), std::to_string(until_seq).c_str()});
  if (ended.affected() == 0) return;
  for (const Statement* statement : {&mark_waiting_sql, &end_notes_sql})
    session_.run(*statement, {text.c_str()});
}

bool Suspects::keep(const SuspectStep& step, std::vector<ClaimedEvent>& waited,
                    std::vector<ClaimedEvent>& queued) {
  std::size_t found = 0;
  for (auto* events : {&waited, &queued}) {
    std::erase_if(*events, [&](const ClaimedEvent& event) {
      return !contains(step.event_ids, event.event.id);
    });
    for (ClaimedEvent& event : *events)
      event.suspect = event.suspect || contains(step.alone, event.event.id);
    found += events->size();
  }
  return found == step.event_ids.size();
}

void Suspects::settle(const SuspectStep& step) {
  const std::string own = std::to_string(shared_->worker_id());
  const Rows rows = session_.run(drop_recorded_sql, {integer_array(step.event_ids).c_str(),
                                                     step.attempted ? nullptr : own.c_str()});
  if (rows.affected() != step.event_ids.size())
    throw SqlError("40001", "another process has taken these events over");
  if (step.last) end_suspicion(step.lane, step.until_seq);
}

std::string note_ended_workers(SqlSession& session) {
  const Rows ended = session.run(remove_ended_sql);
  int most_events = 0;
  std::string who;
  for (std::size_t row = 0; row < ended.size(); ++row) {
    if (ended.integer<int>(row, 0) == 0) continue;
    most_events = std::max(most_events, ended.integer<int>(row, 1));
    who += (who.empty() ? "" : ", ") + ended.string(row, 2);
  }
  if (most_events > 0) {
    // A batch that moves scheduled events into the queue may run them at once. They must be in the
    // queue for good, or the next process would find them not yet moved, and not under suspicion.
    QueueStore(session).promote_scheduled();
    session.run(suspect_lanes_sql, {std::to_string(most_events).c_str()});
  }
  if (!who.empty())
    who +=
        " ended without stopping in order: the next events run in small groups, in case one "
        "of them brought it about";
  return who;
}

void note_ended_workers(SqlSession& session, const std::function<void(const std::string&)>& log) {
  QueueStore store(session);
  store.begin();
  const std::string line = note_ended_workers(session);
  store.commit();
  if (!line.empty()) log(line);
}

std::string process_name(int pid) {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {'?'};
  return "pid " + std::to_string(pid) + " on " + host.data();
}

MaintenanceTask suspicion_upkeep(std::function<void(const std::string&)> log) {
  return {"looking for processes that have ended", std::chrono::milliseconds(1000),
          [log = std::move(log)](SqlSession& session) -> std::optional<std::chrono::milliseconds> {
            note_ended_workers(session, log);
            return std::nullopt;
          }};
}

void await_end(SqlSession& session, const std::string& process, const std::string& how) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (session.run(still_lives_sql, {process.c_str()}).boolean(0, 0) &&
         std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  session.run(tell_end_sql, {process.c_str(), how.c_str()});
}

void blame(SqlSession& session, std::int64_t event_id, std::uint64_t seq,
           const std::string& error) {
  session.run(blame_sql,
              {std::to_string(event_id).c_str(), std::to_string(seq).c_str(), error.c_str()});
}

}  // namespace spillway
