#include "processor/queue_store.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace spillway {
namespace {

// The delete gives the transaction its xid before any seq is drawn (see lane_marks.hpp).
const Statement promote_sql{"sw_promote", R"(
WITH due AS (
  DELETE FROM spillway.scheduled WHERE event_id IN (
    SELECT event_id FROM spillway.scheduled WHERE due_at <= now()
    ORDER BY due_at, event_id LIMIT 5000 FOR UPDATE SKIP LOCKED)
  RETURNING event_id, lane, due_at
), ready AS MATERIALIZED (
  SELECT due.*, e.priority, spillway.stream_key(e.stream) AS stream_key,
         spillway.is_ranked(e.priority, e.stream) AS ranked
  FROM due CROSS JOIN LATERAL
       (SELECT priority, stream FROM spillway.events WHERE events.id = due.event_id OFFSET 0) e
), to_ranked AS (
  INSERT INTO spillway.ranked (lane, priority, stream_key, seq, event_id)
  SELECT lane, priority, stream_key, nextval('spillway.queue_seq'), event_id
  FROM (SELECT * FROM ready WHERE ranked ORDER BY due_at, event_id) ordered
)
INSERT INTO spillway.queue (lane, stream_key, seq, event_id)
SELECT lane, stream_key, nextval('spillway.queue_seq'), event_id
FROM (SELECT * FROM ready WHERE NOT ranked ORDER BY due_at, event_id) ordered)"};

// By ctid: nobody but the lane's owner touches these rows, so they cannot have moved. One that is
// not there any more means that somebody else has handled its event; then the statement fails, and
// with it the batch, whose COMMIT may be on its way already.
#define SPILLWAY_REMOVE_FROM(table)                                  \
  "WITH gone AS (DELETE FROM spillway." table                        \
  " WHERE ctid = ANY ($1::tid[]) RETURNING 1)"                       \
  "SELECT CASE WHEN count(*) = $2::bigint THEN pg_current_xact_id()" \
  "            ELSE spillway.refuse_lost_claim(count(*), $2::bigint) END FROM gone"

const Statement remove_from_queue_sql{"sw_remove_from_queue", SPILLWAY_REMOVE_FROM("queue")};
const Statement remove_from_ranked_sql{"sw_remove_from_ranked", SPILLWAY_REMOVE_FROM("ranked")};

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
INSERT INTO spillway.dead_letters (event_id, error, sqlstate, attempts, suspect)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[], $5::boolean[])
ON CONFLICT (event_id) DO UPDATE
SET error = excluded.error, sqlstate = excluded.sqlstate, attempts = excluded.attempts,
    suspect = excluded.suspect, failed_at = clock_timestamp())"};

const Statement hold_for_ever_sql{"sw_hold_for_ever", R"(
INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at)
SELECT h.event_id, h.lane, h.stream, h.attempts, 'infinity'
FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::smallint[])
  AS h(event_id, lane, stream, attempts)
ON CONFLICT (event_id) DO UPDATE
SET attempts = excluded.attempts, due_at = excluded.due_at, error = NULL, sqlstate = NULL)"};

const Statement hold_behind_sql{"sw_hold_behind", R"(
UPDATE spillway.waiting w SET due_at = NULL
FROM unnest($1::bigint[], $2::text[]) AS f(event_id, stream)
WHERE w.stream = f.stream AND w.event_id > f.event_id
  AND w.due_at IS NOT NULL AND isfinite(w.due_at))"};

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

}  // namespace

void QueueStore::begin() {
  session_.send_exec("BEGIN ISOLATION LEVEL READ COMMITTED");
}
void QueueStore::commit() {
  session_.send_exec("COMMIT");
  session_.finish();
}
void QueueStore::rollback() {
  session_.exec("ROLLBACK");
}

void QueueStore::promote_scheduled() {
  session_.run(promote_sql);
}

void QueueStore::remove_from_queue(std::span<const ClaimedEvent> claimed, std::uint64_t& xid) {
  std::string common = "{", ranked = "{";
  std::size_t ranked_count = 0;
  for (const ClaimedEvent& event : claimed) {
    append_array_element(event.ranked ? ranked : common, event.row);
    ranked_count += event.ranked ? 1 : 0;
  }
  const auto remove = [&](const Statement& statement, std::string& rows, std::size_t wanted) {
    if (wanted == 0) return;
    session_.send(statement, {(rows += '}').c_str(), std::to_string(wanted).c_str()},
                  [&xid](const Rows& gone) { xid = gone.integer<std::uint64_t>(0, 0); });
  };
  remove(remove_from_queue_sql, common, claimed.size() - ranked_count);
  remove(remove_from_ranked_sql, ranked, ranked_count);
}

void QueueStore::remove_from_waiting(std::span<const std::int64_t> event_ids) {
  if (event_ids.empty()) return;
  session_.send(remove_from_waiting_sql, {integer_array(event_ids).c_str()});
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
  session_.send(postpone_sql, {id.c_str(), lane.c_str(), stream.c_str(), attempts.c_str(),
                               delay.c_str(), error.c_str(), sqlstate.c_str(), suspect.c_str()});
}

void QueueStore::bury(std::span<const Buried> events) {
  if (events.empty()) return;
  std::string id = "{", error = "{", sqlstate = "{", attempts = "{", suspect = "{";
  for (const Buried& buried : events) {
    append_array_element(id, buried.claimed->event.id);
    append_array_element(error, buried.error);
    append_text_or_null(sqlstate, buried.sqlstate);
    append_array_element(attempts, std::min(buried.attempts, 32767));
    append_array_element(suspect, buried.suspect ? "t" : "f");
  }
  for (std::string* array : {&id, &error, &sqlstate, &attempts, &suspect}) *array += '}';
  session_.send(bury_sql,
                {id.c_str(), error.c_str(), sqlstate.c_str(), attempts.c_str(), suspect.c_str()});

  std::string held = "{", lane = "{", stream = "{", tried = "{";
  for (const Buried& buried : events) {
    if (!buried.holds_stream || !buried.claimed->event.stream) continue;
    append_array_element(held, buried.claimed->event.id);
    append_array_element(lane, buried.claimed->lane);
    append_array_element(stream, *buried.claimed->event.stream);
    append_array_element(tried, std::min(buried.attempts, 32767));
  }
  if (held.size() == 1) return;
  for (std::string* array : {&held, &lane, &stream, &tried}) *array += '}';
  session_.send(hold_for_ever_sql, {held.c_str(), lane.c_str(), stream.c_str(), tried.c_str()});
}

void QueueStore::hold_behind(std::span<const ClaimedEvent* const> firsts) {
  std::string id = "{", stream = "{";
  for (const ClaimedEvent* first : firsts) {
    if (!first->event.stream) continue;
    append_array_element(id, first->event.id);
    append_array_element(stream, *first->event.stream);
  }
  if (id.size() == 1) return;
  session_.send(hold_behind_sql, {(id += '}').c_str(), (stream += '}').c_str()});
}

void QueueStore::save_responses(std::span<const std::pair<std::int64_t, json>> responses) {
  if (responses.empty()) return;
  std::string id = "{", response = "{";
  for (const auto& [event_id, answer] : responses) {
    append_array_element(id, event_id);
    append_array_element(response, answer.dump());
  }
  session_.send(save_responses_sql, {(id += '}').c_str(), (response += '}').c_str()});
}

void QueueStore::release_streams(std::span<const std::string> streams) {
  if (streams.empty()) return;
  std::string array = "{";
  for (const std::string& stream : streams) append_array_element(array, stream);
  session_.send(release_streams_sql, {(array += '}').c_str()});
}

QueueStore::Armed QueueStore::arm(std::chrono::milliseconds hold, bool bound) {
  // What is due already is found by the look that follows; if it is not, an earlier event of its
  // stream holds it back.
  const Rows rows = session_.exec(
      "SELECT last_value, (1000 * date_part('epoch', clock_timestamp()))::bigint,"
      "  ceil(1000 * extract(epoch FROM least("
      "   (SELECT min(due_at) FROM spillway.scheduled),"
      "   (SELECT min(due_at) FROM spillway.waiting WHERE due_at > now() AND due_at < 'infinity'))"
      "   - clock_timestamp()))::bigint"
      " FROM spillway.armed");
  Armed armed;
  if (!rows.is_null(0, 2))
    armed.next_due = std::chrono::milliseconds(std::max<std::int64_t>(0, rows.integer(0, 2)));
  const auto until = rows.integer(0, 0);
  const auto present = rows.integer(0, 1);
  bool already = true;
  if (until - present < hold.count() / 2) {
    // It was in force all the time only if it still is when the new time stands.
    const std::string before = std::to_string(until), more = std::to_string(hold.count());
    already = session_
                  .exec(
                      "SELECT setval('spillway.armed',"
                      " (1000 * date_part('epoch', clock_timestamp()))::bigint + " +
                      more + "), 1000 * date_part('epoch', clock_timestamp()) < " + before)
                  .boolean(0, 1);
  }
  if (already && !bound) return armed;
  // An xid given after the arming: an insert that read "not armed" just before has a lower one, and
  // is waited for. A transaction of its own, because setval gives its own transaction an xid before
  // it acts.
  armed.bound = session_.exec("SELECT pg_current_xact_id()").integer<std::uint64_t>(0, 0);
  return armed;
}

void QueueStore::disarm() {
  session_.exec("SELECT setval('spillway.armed', 0)");
}

}  // namespace spillway
