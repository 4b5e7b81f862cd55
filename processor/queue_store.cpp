#include "processor/queue_store.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace spillway {
namespace {

// The lock in one statement, the read in the next: the reading statement needs a snapshot taken
// after the lock was got, or it sees rows that the lane's former owner has just finished. The LIMIT
// stops the scan, so no lane is locked beyond it.
const Statement own_lanes_sql{"sw_own_lanes", R"(
SELECT l.lane, pg_snapshot_xmin(pg_current_snapshot()),
       (SELECT EXISTS (SELECT FROM spillway.waiting WHERE due_at <= now())),
       (SELECT EXISTS (SELECT FROM spillway.scheduled WHERE due_at <= now())),
       (SELECT last_value = 1 FROM spillway.armed),
       CASE WHEN (SELECT EXISTS (SELECT FROM spillway.suspicion))
            THEN EXISTS (SELECT FROM spillway.suspicion s WHERE s.lane = l.lane) ELSE false END
FROM unnest($1::int[]) AS l(lane)
WHERE pg_try_advisory_xact_lock($2::int, l.lane)
LIMIT $3::int)"};

// The columns of an event; read by event_of().
#define SPILLWAY_EVENT_COLUMNS                                                                     \
  "e.id, e.type, e.stream, e.payload, e.context, e.correlation_id, e.causation_id, e.created_at, " \
  "e.max_attempts"
constexpr std::size_t event_columns = 9;

// Lane by lane, from each lane's mark: `lane = ANY(…) ORDER BY seq` would read whole lanes. The
// queue rows are fetched first and the events looked up one by one (MATERIALIZED, OFFSET 0): left
// to itself the planner may choose a merge join that walks the log from its beginning. The size is
// that of the stored, maybe compressed, value, so nothing is read to know it.
const Statement claim_queue_sql{"sw_claim_queue", R"(
WITH q AS MATERIALIZED (
  SELECT l.lane, r.seq, r.event_id, r.ctid AS row
  FROM unnest($1::smallint[], $2::bigint[]) AS l(lane, from_seq)
  CROSS JOIN LATERAL (
    SELECT queue.seq, queue.event_id, queue.ctid FROM spillway.queue
    WHERE queue.lane = l.lane AND queue.seq >= l.from_seq
    ORDER BY queue.seq LIMIT $3::int) r
  LIMIT $3::int
), hold AS MATERIALIZED (
  SELECT EXISTS (SELECT FROM spillway.waiting WHERE stream IS NOT NULL) AS possible
)
SELECT * FROM (
  SELECT )" SPILLWAY_EVENT_COLUMNS R"(, q.lane, q.seq, q.row,
         CASE WHEN (SELECT possible FROM hold) AND e.stream IS NOT NULL
              THEN EXISTS (SELECT FROM spillway.waiting w WHERE w.stream = e.stream)
              ELSE false END,
         sum(pg_column_size(e.payload) + pg_column_size(e.context))
           OVER (ROWS UNBOUNDED PRECEDING) AS bytes,
         pg_column_size(e.payload) + pg_column_size(e.context) AS own_bytes
  FROM q CROSS JOIN LATERAL (SELECT * FROM spillway.events WHERE events.id = q.event_id OFFSET 0) e
) claimed
WHERE bytes - own_bytes <= $4::bigint)"};

// The first event that waits in a stream is the only one that may start it, and those behind it
// follow up to the next one that has a time of its own.
const Statement claim_waiting_sql{"sw_claim_waiting", R"(
WITH heads AS MATERIALIZED (
  SELECT w.event_id, w.stream FROM spillway.waiting w
  WHERE w.lane = ANY ($1::smallint[]) AND w.due_at <= now()
    AND NOT EXISTS (SELECT FROM spillway.waiting before
                    WHERE before.stream = w.stream AND before.event_id < w.event_id)
  ORDER BY w.due_at LIMIT $2::int
), due AS (
  SELECT event_id FROM heads
  UNION
  SELECT follower.event_id
  FROM (SELECT stream FROM heads WHERE stream IS NOT NULL) h
  CROSS JOIN LATERAL (
    SELECT w.event_id FROM spillway.waiting w
    WHERE w.stream = h.stream
      AND w.event_id < coalesce((SELECT min(later.event_id) FROM spillway.waiting later
                                 WHERE later.stream = h.stream AND later.due_at > now()),
                                9223372036854775807)
    ORDER BY w.event_id LIMIT $2::int) follower
)
SELECT )" SPILLWAY_EVENT_COLUMNS R"(, w.lane, w.attempts, w.suspect
FROM (SELECT event_id FROM due ORDER BY event_id LIMIT $2::int) d
JOIN spillway.waiting w ON w.event_id = d.event_id
CROSS JOIN LATERAL (SELECT * FROM spillway.events WHERE events.id = d.event_id OFFSET 0) e
ORDER BY d.event_id)"};

const Statement find_event_sql{
    "sw_find_event", "SELECT " SPILLWAY_EVENT_COLUMNS ", 0 FROM spillway.events e WHERE e.id = $1"};

// The delete gives the transaction its xid before any seq is drawn (see lane_marks.hpp).
const Statement promote_sql{"sw_promote", R"(
WITH due AS (
  DELETE FROM spillway.scheduled WHERE event_id IN (
    SELECT event_id FROM spillway.scheduled WHERE due_at <= now()
    ORDER BY due_at, event_id LIMIT 5000 FOR UPDATE SKIP LOCKED)
  RETURNING event_id, lane, due_at
)
INSERT INTO spillway.queue (lane, seq, event_id)
SELECT lane, nextval('spillway.queue_seq'), event_id
FROM (SELECT * FROM due ORDER BY due_at, event_id) ordered)"};

// By ctid: nobody but the lane's owner touches these rows, so they cannot have moved.
const Statement remove_from_queue_sql{"sw_remove_from_queue", R"(
WITH gone AS (DELETE FROM spillway.queue WHERE ctid = ANY ($1::tid[]) RETURNING 1)
SELECT count(*), pg_current_xact_id() FROM gone)"};

const Statement remove_from_waiting_sql{
    "sw_remove_from_waiting", "DELETE FROM spillway.waiting WHERE event_id = ANY ($1::bigint[])"};

const Statement postpone_sql{"sw_postpone", R"(
INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at, error, sqlstate, suspect)
SELECT p.event_id, p.lane, p.stream, p.attempts,
       clock_timestamp() + p.delay_ms * interval '1 millisecond', p.error, p.sqlstate, p.suspect
FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::smallint[], $5::bigint[], $6::text[],
            $7::text[], $8::boolean[])
     AS p(event_id, lane, stream, attempts, delay_ms, error, sqlstate, suspect)
ON CONFLICT (event_id) DO UPDATE
SET attempts = excluded.attempts, due_at = excluded.due_at, error = excluded.error,
    sqlstate = excluded.sqlstate, suspect = excluded.suspect)"};

const Statement bury_sql{"sw_bury", R"(
INSERT INTO spillway.dead_letters (event_id, error, sqlstate, attempts)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[])
ON CONFLICT (event_id) DO UPDATE
SET error = excluded.error, sqlstate = excluded.sqlstate, attempts = excluded.attempts,
    failed_at = clock_timestamp())"};

const Statement save_responses_sql{"sw_save_responses", R"(
INSERT INTO spillway.results (event_id, response)
SELECT * FROM unnest($1::bigint[], $2::jsonb[])
ON CONFLICT (event_id) DO UPDATE SET response = excluded.response, created_at = clock_timestamp())"};

const Statement release_streams_sql{"sw_release_streams", R"(
UPDATE spillway.waiting w SET due_at = now()
FROM (SELECT min(event_id) AS event_id FROM spillway.waiting
      WHERE stream = ANY ($1::text[]) GROUP BY stream) first
WHERE w.event_id = first.event_id AND w.due_at IS NULL)"};

void append_null(std::string& array) {
  array += array.size() > 1 ? ",NULL" : "NULL";
}

void append_text_or_null(std::string& array, std::string_view text) {
  if (text.empty())
    append_null(array);
  else
    append_array_element(array, text);
}

// An array literal of the integers of a range.
template <typename Range>
std::string integer_array(const Range& range) {
  std::string array = "{";
  for (const auto value : range) append_array_element(array, static_cast<std::int64_t>(value));
  return array += '}';
}

json parse_or_note(std::string_view text, const char* what, std::string& problem) {
  if (text == "{}") return json::object();
  try {
    return json::parse(text);
  } catch (const json::exception&) {  // a number no double can hold
    problem = std::string(what) + " holds a number that is out of range";
    return json::object();
  }
}

ClaimedEvent event_of(const Rows& rows, std::size_t row) {
  ClaimedEvent claimed;
  Event& event = claimed.event;
  event.id = rows.integer(row, 0);
  event.type = rows.string(row, 1);
  if (!rows.is_null(row, 2)) event.stream = rows.string(row, 2);
  event.payload = parse_or_note(rows.text(row, 3), "payload", claimed.problem);
  event.context = parse_or_note(rows.text(row, 4), "context", claimed.problem);
  event.correlation_id = rows.string(row, 5);
  if (!rows.is_null(row, 6)) event.causation_id = rows.integer(row, 6);
  // "2026-01-31 12:00:00.5+00" (the session's time zone is UTC) becomes ISO 8601.
  event.created_at = rows.string(row, 7);
  if (const auto space = event.created_at.find(' '); space != std::string::npos)
    event.created_at[space] = 'T';
  if (event.created_at.ends_with("+00"))
    event.created_at.replace(event.created_at.size() - 3, 3, "Z");
  if (!rows.is_null(row, 8)) claimed.max_attempts = rows.integer<int>(row, 8);
  claimed.lane = rows.integer<int>(row, event_columns);
  return claimed;
}

}  // namespace

void QueueStore::begin() {
  session_.exec("BEGIN ISOLATION LEVEL READ COMMITTED");
}
void QueueStore::commit() {
  session_.exec("COMMIT");
}
void QueueStore::rollback() {
  session_.exec("ROLLBACK");
}

OwnedLanes QueueStore::own_lanes(std::span<const int> order, std::size_t most) {
  const Rows rows = session_.run(
      own_lanes_sql, {integer_array(order).c_str(), std::to_string(lane_lock_class).c_str(),
                      std::to_string(most).c_str()});
  OwnedLanes owned;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    owned.lanes.push_back(rows.integer<int>(row, 0));
    owned.xmin = rows.integer<std::uint64_t>(row, 1);
    owned.waiting_due = rows.boolean(row, 2);
    owned.scheduled_due = rows.boolean(row, 3);
    owned.armed = rows.boolean(row, 4);
    if (rows.boolean(row, 5)) owned.suspected.push_back(owned.lanes.back());
  }
  return owned;
}

void QueueStore::promote_scheduled() {
  session_.run(promote_sql);
}

std::vector<ClaimedEvent> QueueStore::claim_waiting(std::span<const int> lanes, std::size_t limit) {
  const Rows rows = session_.run(claim_waiting_sql,
                                 {integer_array(lanes).c_str(), std::to_string(limit).c_str()});
  std::vector<ClaimedEvent> events;
  events.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    events.push_back(event_of(rows, row));
    events.back().attempts = rows.integer<int>(row, event_columns + 1);
    events.back().event.attempt = events.back().attempts + 1;
    events.back().suspect = rows.boolean(row, event_columns + 2);
  }
  return events;
}

std::optional<ClaimedEvent> QueueStore::find(std::int64_t event_id) {
  const Rows rows = session_.run(find_event_sql, {std::to_string(event_id).c_str()});
  if (rows.empty()) return std::nullopt;
  return event_of(rows, 0);
}

QueueStore::QueueClaim QueueStore::claim_queue(std::span<const int> lanes,
                                               std::span<const std::uint64_t> from,
                                               std::size_t limit, std::size_t bytes) {
  const Rows rows =
      session_.run(claim_queue_sql, {integer_array(lanes).c_str(), integer_array(from).c_str(),
                                     std::to_string(limit).c_str(), std::to_string(bytes).c_str()});
  QueueClaim claim;
  claim.cut = rows.size() >= limit;
  claim.events.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    claim.events.push_back(event_of(rows, row));
    ClaimedEvent& claimed = claim.events.back();
    claimed.seq = rows.integer<std::uint64_t>(row, event_columns + 1);
    claimed.row = rows.string(row, event_columns + 2);
    claimed.held = rows.boolean(row, event_columns + 3);
    // The row that passes the limit is the last one that is given.
    if (rows.integer<std::size_t>(row, event_columns + 4) > bytes) claim.cut = true;
  }
  return claim;
}

std::uint64_t QueueStore::remove_from_queue(std::span<const ClaimedEvent> claimed) {
  if (claimed.empty()) return 0;
  std::string ctids = "{";
  for (const ClaimedEvent& event : claimed) append_array_element(ctids, event.row);
  const Rows rows = session_.run(remove_from_queue_sql, {(ctids += '}').c_str()});
  if (rows.integer<std::size_t>(0, 0) != claimed.size())
    throw SqlError("XX000",
                   "only " + rows.string(0, 0) + " of " + std::to_string(claimed.size()) +
                       " claimed events are still in the queue: did somebody delete from it?");
  return rows.integer<std::uint64_t>(0, 1);
}

void QueueStore::remove_from_waiting(std::span<const std::int64_t> event_ids) {
  if (event_ids.empty()) return;
  session_.run(remove_from_waiting_sql, {integer_array(event_ids).c_str()});
}

void QueueStore::postpone(std::span<const Postponed> events) {
  if (events.empty()) return;
  std::string id = "{", lane = "{", stream = "{", attempts = "{", delay = "{", error = "{",
              sqlstate = "{", suspect = "{";
  for (const Postponed& postponed : events) {
    append_array_element(id, postponed.claimed->event.id);
    append_array_element(lane, postponed.claimed->lane);
    if (postponed.claimed->event.stream)
      append_array_element(stream, *postponed.claimed->event.stream);
    else
      append_null(stream);
    append_array_element(attempts, std::min(postponed.attempts, 32767));
    if (postponed.delay)
      append_array_element(delay, postponed.delay->count());
    else
      append_null(delay);
    append_text_or_null(error, postponed.error);
    append_text_or_null(sqlstate, postponed.sqlstate);
    append_array_element(suspect, postponed.suspect ? "t" : "f");
  }
  for (std::string* array : {&id, &lane, &stream, &attempts, &delay, &error, &sqlstate, &suspect})
    *array += '}';
  session_.run(postpone_sql, {id.c_str(), lane.c_str(), stream.c_str(), attempts.c_str(),
                              delay.c_str(), error.c_str(), sqlstate.c_str(), suspect.c_str()});
}

void QueueStore::bury(std::span<const Buried> events) {
  if (events.empty()) return;
  std::string id = "{", error = "{", sqlstate = "{", attempts = "{";
  for (const Buried& buried : events) {
    append_array_element(id, buried.claimed->event.id);
    append_array_element(error, buried.error);
    append_text_or_null(sqlstate, buried.sqlstate);
    append_array_element(attempts, std::min(buried.attempts, 32767));
  }
  for (std::string* array : {&id, &error, &sqlstate, &attempts}) *array += '}';
  session_.run(bury_sql, {id.c_str(), error.c_str(), sqlstate.c_str(), attempts.c_str()});
}

void QueueStore::save_responses(std::span<const std::pair<std::int64_t, json>> responses) {
  if (responses.empty()) return;
  std::string id = "{", response = "{";
  for (const auto& [event_id, answer] : responses) {
    append_array_element(id, event_id);
    append_array_element(response, answer.dump());
  }
  session_.run(save_responses_sql, {(id += '}').c_str(), (response += '}').c_str()});
}

void QueueStore::release_streams(std::span<const std::string> streams) {
  if (streams.empty()) return;
  std::string array = "{";
  for (const std::string& stream : streams) append_array_element(array, stream);
  session_.run(release_streams_sql, {(array += '}').c_str()});
}

QueueStore::Armed QueueStore::arm() {
  const Rows rows = session_.exec(
      "SELECT last_value, ceil(1000 * extract(epoch FROM least("
      "   (SELECT min(due_at) FROM spillway.scheduled),"
      "   (SELECT min(due_at) FROM spillway.waiting)) - clock_timestamp()))::bigint"
      " FROM spillway.armed");
  Armed armed;
  if (!rows.is_null(0, 1))
    armed.next_due = std::chrono::milliseconds(std::max<std::int64_t>(0, rows.integer(0, 1)));
  if (rows.integer(0, 0) == 1) return armed;
  session_.exec("SELECT setval('spillway.armed', 1)");
  // An xid given after the arming: an insert that read 0 just before has a lower one, and is waited
  // for. A transaction of its own, because setval gives its own transaction an xid before it acts.
  armed.bound = session_.exec("SELECT pg_current_xact_id()").integer<std::uint64_t>(0, 0);
  return armed;
}

void QueueStore::disarm() {
  session_.exec("SELECT setval('spillway.armed', 0)");
}

}  // namespace spillway
