// What QueueStore claims: lanes, what waits, the common queue, what has a priority.
#include <algorithm>
#include <array>
#include <utility>

#include "processor/queue_store.hpp"

namespace spillway {
namespace {

// The lock in one statement, the read in the next: the reading statement needs a snapshot taken
// after the lock was got, or it sees rows that the lane's former owner has just finished. The LIMIT
// stops the scan, so no lane is locked beyond it. When there is none to own, one row says the rest.
const std::string own_lanes = R"(
SELECT l.lane, pg_snapshot_xmin(pg_current_snapshot()),
       (SELECT EXISTS (SELECT FROM spillway.waiting WHERE due_at <= now() AND due_at < 'infinity')),
       (SELECT EXISTS (SELECT FROM spillway.scheduled WHERE due_at <= now())),
       coalesce(pg_sequence_last_value('spillway.armed'), 0)
         - (1000 * date_part('epoch', clock_timestamp()))::bigint,
       (SELECT EXISTS (SELECT FROM spillway.ranked)),
       (SELECT max(version) FROM spillway.migrations),
       CASE WHEN (SELECT EXISTS (SELECT FROM spillway.suspicion))
            THEN EXISTS (SELECT FROM spillway.suspicion s WHERE s.lane = l.lane) ELSE false END,
       spillway.lane_count()
FROM (VALUES (true)) AS one LEFT JOIN
     (SELECT o.lane FROM unnest($1::int[]) AS o(lane)
      WHERE pg_try_advisory_xact_lock($2::int, o.lane)
      LIMIT $3::int) AS l ON true)";
const Statement own_lanes_sql{"sw_own_lanes", own_lanes};

// The same for a claim that is sent along without knowing which lanes are owned: a setting of the
// transaction tells it.
const Statement own_and_tell_sql{"sw_own_and_tell",
                                 "WITH owned AS MATERIALIZED (" + own_lanes + R"()
SELECT owned.*, told.* FROM owned, (
  SELECT set_config('spillway.lanes', (SELECT array_agg(lane)::text FROM owned), true)
  OFFSET 0) told)"};

// Where each lane's claim starts: behind what is settled (from_seq), or further on where everything
// that may still appear below comes from transactions that are known to run (fast_seq). Whether
// they run is asked of the claim's own snapshot, so the answer is exact.
std::string lane_starts(const std::string& which) {
  return R"(l AS MATERIALIZED (
  SELECT s.ord, s.lane, b.running,
         CASE WHEN b.running THEN s.fast_seq ELSE s.from_seq END AS from_seq
  FROM (SELECT NOT EXISTS (SELECT FROM unnest($4::xid8[]) AS x(xid) WHERE
          pg_visible_in_snapshot(x.xid, pg_current_snapshot())) AS running) b,
       unnest($1::smallint[], $2::bigint[], $3::bigint[])
         WITH ORDINALITY AS s(lane, from_seq, fast_seq, ord) )" +
         which + ")";
}

// The end of a claim: `q` names the rows that were chosen, here come their events. The size is that
// of the stored, maybe compressed, value, so nothing is read to know it. Looked up one by one
// (MATERIALIZED, OFFSET 0): left to itself the planner may choose a merge join that walks the log
// from its beginning.
const std::string held_back = R"(, hold AS MATERIALIZED (
  SELECT EXISTS (SELECT FROM spillway.waiting WHERE stream IS NOT NULL) AS possible,
         EXISTS (SELECT FROM spillway.ranked) AS ranked,
         (SELECT bool_and(running) FROM l) AS fast)
)";
const std::string marks = R"(, q.lane, q.seq, q.row,
         CASE WHEN (SELECT possible FROM hold) AND e.stream IS NOT NULL
              THEN EXISTS (SELECT FROM spillway.waiting w WHERE w.stream = e.stream)
              ELSE false END,
         q.ranked, (SELECT ranked FROM hold), (SELECT fast FROM hold))";
const std::string log_of_claimed = R"(
  FROM q CROSS JOIN LATERAL
       (SELECT * FROM spillway.events WHERE events.id = q.event_id OFFSET 0) e)";

// Up to a number of bytes in all.
const std::string measured_events = held_back + R"(
SELECT * FROM (
  SELECT )" SPILLWAY_EVENT_COLUMNS + marks +
                                    R"(,
         sum(pg_column_size(e.payload) + pg_column_size(e.context))
           OVER (ROWS UNBOUNDED PRECEDING) AS bytes,
         pg_column_size(e.payload) + pg_column_size(e.context) AS own_bytes)" +
                                    log_of_claimed +
                                    R"() claimed
WHERE bytes - own_bytes <= $6::bigint)";

// The sum costs a fifth of the claim, since it keeps every row aside. So at first each event is
// asked to have no more than its share; one that has comes without its payload.
const std::string light_events = held_back +
                                 "SELECT " SPILLWAY_EVENT_COLUMNS_AND(
                                     "CASE WHEN pg_column_size(e.payload) + "
                                     "pg_column_size(e.context) <= $6::bigint THEN e.payload END") +
                                 marks + log_of_claimed;

// Lane by lane, each from its start: `lane = ANY(…) ORDER BY seq` would read whole lanes. `which`
// narrows down the lanes that are given.
std::string claim_queue_text(const std::string& which, const std::string& events) {
  return "WITH " + lane_starts(which) + R"(,
q AS MATERIALIZED (
  SELECT l.lane, r.seq, r.event_id, r.ctid AS row, false AS ranked
  FROM l CROSS JOIN LATERAL (
    SELECT queue.seq, queue.event_id, queue.ctid FROM spillway.queue
    WHERE queue.lane = l.lane AND queue.seq >= l.from_seq
    ORDER BY queue.seq LIMIT $5::int) r
  LIMIT $5::int)
)" + events;
}
const Statement claim_queue_sql{"sw_claim_queue", claim_queue_text("", light_events)};
const Statement claim_measured_sql{"sw_claim_measured", claim_queue_text("", measured_events)};
// Of the lanes given, those that own_and_tell has got.
const Statement claim_owned_sql{
    "sw_claim_owned",
    claim_queue_text("WHERE s.lane = ANY (nullif(current_setting('spillway.lanes', true), '')"
                     "::smallint[])",
                     light_events)};

// The same with priorities. `$7` says whose turn it is, so that nobody starves: 0 the highest
// priority, 1 the common queue, 2 what may wait, 3 whatever of the ranked is oldest; the others
// fill up what is left.
//
// No stream is reordered. A ranked event waits while the common queue holds an earlier event of its
// stream; looking that up reads the lane, so the answer is noted in after_seq. And nothing is taken
// while an earlier ranked event of its stream stays behind. All in one statement, for one snapshot.
const Statement claim_ranked_sql{"sw_claim_ranked", "WITH " + lane_starts("") + R"(,
candidates AS MATERIALIZED (
  SELECT l.lane, r.* FROM l CROSS JOIN LATERAL (
    (SELECT seq, event_id, stream_key, after_seq, priority, ctid AS row FROM spillway.ranked
     WHERE ranked.lane = l.lane AND $7::int IN (0, 1) ORDER BY priority DESC, seq LIMIT $5::int)
    UNION ALL
    (SELECT seq, event_id, stream_key, after_seq, priority, ctid FROM spillway.ranked
     WHERE ranked.lane = l.lane AND $7::int = 2 AND priority < 0
     ORDER BY priority DESC, seq LIMIT $5::int)
    UNION ALL
    (SELECT seq, event_id, stream_key, after_seq, priority, ctid FROM spillway.ranked
     WHERE ranked.lane = l.lane AND $7::int = 3 ORDER BY seq LIMIT $5::int)) r
),
predecessors AS MATERIALIZED (
  SELECT c.lane, c.seq, max(earlier.seq) AS after_seq
  FROM candidates c JOIN spillway.queue earlier
    ON earlier.lane = c.lane AND earlier.stream_key = c.stream_key AND earlier.event_id < c.event_id
  WHERE c.after_seq IS NULL AND c.stream_key IS NOT NULL
  GROUP BY c.lane, c.seq
),
noted AS (
  UPDATE spillway.ranked SET after_seq = p.after_seq FROM predecessors p
  WHERE ranked.lane = p.lane AND ranked.seq = p.seq
),
chosen AS MATERIALIZED (
  SELECT * FROM (
    SELECT c.lane, c.seq, c.event_id, c.stream_key, c.row, true AS ranked,
           CASE WHEN $7::int = 3 THEN 0 WHEN c.priority > 0 THEN 1 WHEN $7::int = 2 THEN 0 ELSE 3
           END AS class,
           CASE WHEN $7::int = 3 THEN 0 ELSE -c.priority::bigint END AS place
    FROM candidates c
    WHERE c.stream_key IS NULL
       OR NOT EXISTS (SELECT FROM predecessors p WHERE p.lane = c.lane AND p.seq = c.seq)
          AND NOT EXISTS (SELECT FROM spillway.queue earlier
                          WHERE earlier.lane = c.lane AND earlier.seq = c.after_seq)
    UNION ALL
    SELECT l.lane, r.seq, r.event_id, r.stream_key, r.ctid, false,
           CASE WHEN $7::int = 1 THEN 0 ELSE 2 END, l.ord
    FROM l CROSS JOIN LATERAL (
      SELECT queue.seq, queue.event_id, queue.stream_key, queue.ctid FROM spillway.queue
      WHERE queue.lane = l.lane AND queue.seq >= l.from_seq
      ORDER BY queue.seq LIMIT $5::int) r
  ) both_kinds
  ORDER BY class, place, seq LIMIT $5::int
),
q AS MATERIALIZED (
  SELECT * FROM chosen c
  WHERE c.stream_key IS NULL
     OR NOT EXISTS (
       SELECT FROM spillway.ranked earlier
       WHERE earlier.lane = c.lane AND earlier.stream_key = c.stream_key
         AND earlier.event_id < c.event_id
         AND NOT EXISTS (SELECT FROM chosen taken
                         WHERE taken.ranked AND taken.lane = earlier.lane
                           AND taken.seq = earlier.seq))
  ORDER BY class, place, seq)
)" + measured_events};

// The first event that waits in a stream is the only one that may start it, and those behind it
// follow up to the next one that has a time of its own. Not prepared: a plan that was made when one
// row waited would compare every row with every other once a hundred thousand do.
const Statement claim_waiting_sql{"", R"(
WITH heads AS MATERIALIZED (
  SELECT w.event_id, w.stream FROM spillway.waiting w
  WHERE w.lane = ANY ($1::smallint[]) AND w.due_at <= now() AND w.due_at < 'infinity'
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
SELECT )" SPILLWAY_EVENT_COLUMNS R"(, w.lane, w.attempts, w.discarded, w.suspect
FROM (SELECT event_id FROM due ORDER BY event_id LIMIT $2::int) d
JOIN spillway.waiting w ON w.event_id = d.event_id
CROSS JOIN LATERAL (SELECT * FROM spillway.events WHERE events.id = d.event_id OFFSET 0) e
ORDER BY d.event_id)"};

const Statement find_event_sql{
    "sw_find_event", "SELECT " SPILLWAY_EVENT_COLUMNS ", 0 FROM spillway.events e WHERE e.id = $1"};

// Who may have drawn a seq and not ended yet: the trigger's INSERT takes this lock before it draws
// one and keeps it to the end. A subtransaction's xid is never below its parent's. Virtual
// transactions without an xid are reported as 0.
const Statement queue_writers_sql{"sw_queue_writers", R"(
WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks WHERE granted),
present AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax),
holder AS (
  SELECT DISTINCT virtualtransaction FROM locks
  WHERE locktype = 'relation' AND relation = 'spillway.queue'::regclass
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
    AND pid IS DISTINCT FROM pg_backend_pid()
)
SELECT coalesce(min(x.full_xid), 0)
FROM holder LEFT JOIN (
  SELECT l.virtualtransaction,
         CASE WHEN guess > xmax + 2147483647 THEN guess - 4294967296 ELSE guess END AS full_xid
  FROM locks l, present,
       LATERAL (SELECT (xmax >> 32 << 32) + l.transactionid::text::bigint AS guess) g
  WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock') x
  ON x.virtualtransaction = holder.virtualtransaction
GROUP BY holder.virtualtransaction)"};

}  // namespace

namespace {

// After an event that is larger than its share, so many claims measure as they go.
constexpr int measured_claims = 32;

OwnedLanes owned_lanes_of(const Rows& rows) {
  OwnedLanes owned;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    owned.lane_count = rows.integer<int>(row, 8);
    if (rows.is_null(row, 0)) continue;
    owned.lanes.push_back(rows.integer<int>(row, 0));
    owned.xmin = rows.integer<std::uint64_t>(row, 1);
    owned.waiting_due = rows.boolean(row, 2);
    owned.scheduled_due = rows.boolean(row, 3);
    owned.armed_left = std::chrono::milliseconds(rows.integer(row, 4));
    owned.ranked = rows.boolean(row, 5);
    owned.schema_version = rows.integer<int>(row, 6);
    if (rows.boolean(row, 7)) owned.suspected.push_back(owned.lanes.back());
  }
  return owned;
}

QueueStore::QueueClaim queue_claim_of(const Rows& rows, std::size_t limit) {
  QueueStore::QueueClaim claim;
  claim.cut = rows.size() >= limit;
  claim.events.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    claim.events.push_back(event_of(rows, row));
    ClaimedEvent& claimed = claim.events.back();
    claimed.seq = rows.integer<std::uint64_t>(row, event_columns + 1);
    claimed.row = rows.string(row, event_columns + 2);
    claimed.held = rows.boolean(row, event_columns + 3);
    claimed.ranked = rows.boolean(row, event_columns + 4);
  }
  if (!rows.empty()) {
    claim.ranked_left = rows.boolean(0, event_columns + 5);
    claim.fast = rows.boolean(0, event_columns + 6);
  }
  return claim;
}

// None: an event is larger than its share.
std::optional<QueueStore::QueueClaim> light_claim_of(const Rows& rows, std::size_t limit) {
  for (std::size_t row = 0; row < rows.size(); ++row)
    if (rows.is_null(row, payload_column)) return std::nullopt;
  return queue_claim_of(rows, limit);
}

QueueStore::QueueClaim measured_claim_of(const Rows& rows, std::size_t limit, std::size_t bytes) {
  QueueStore::QueueClaim claim = queue_claim_of(rows, limit);
  // The row that passes the limit is the last one that is given.
  if (!rows.empty() && rows.integer<std::size_t>(rows.size() - 1, event_columns + 7) > bytes)
    claim.cut = true;
  return claim;
}

std::size_t share_of(std::size_t bytes, std::size_t limit) {
  return bytes / std::max<std::size_t>(1, limit);
}

// The parameters of a claim, as text that lives as long as this does.
class ClaimParameters {
 public:
  ClaimParameters(std::span<const int> lanes, const LaneStarts& starts, std::size_t limit,
                  std::size_t bytes)
      : text_{integer_array(lanes),       integer_array(starts.from),
              integer_array(starts.fast), integer_array(starts.blockers),
              std::to_string(limit),      std::to_string(bytes)} {
    for (const std::string& one : text_) all_.emplace_back(one.c_str());
  }
  ClaimParameters(const ClaimParameters&) = delete;
  ClaimParameters& operator=(const ClaimParameters&) = delete;
  void add(const char* more) { all_.emplace_back(more); }
  operator std::span<const Parameter>() const { return all_; }

 private:
  std::array<std::string, 6> text_;
  std::vector<Parameter> all_;
};

}  // namespace

OwnedLanes QueueStore::own_lanes(std::span<const int> order, std::size_t most) {
  return owned_lanes_of(session_.run(
      own_lanes_sql, {integer_array(order).c_str(), std::to_string(lane_lock_class).c_str(),
                      std::to_string(most).c_str()}));
}

QueueStore::Look QueueStore::look(std::span<const int> order, std::size_t most,
                                  const LaneStarts& starts, std::size_t limit, std::size_t bytes) {
  Look look;
  session_.send(own_and_tell_sql,
                {integer_array(order).c_str(), std::to_string(lane_lock_class).c_str(),
                 std::to_string(most).c_str()},
                [&](const Rows& rows) { look.owned = owned_lanes_of(rows); });
  session_.send(claim_owned_sql, ClaimParameters(order, starts, limit, share_of(bytes, limit)),
                [&](const Rows& rows) { look.claim = light_claim_of(rows, limit); });
  session_.finish();
  if (!look.claim) measured_ = measured_claims;
  return look;
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
    events.back().discarded = rows.boolean(row, event_columns + 2);
    events.back().suspect = rows.boolean(row, event_columns + 3);
  }
  return events;
}

std::optional<ClaimedEvent> QueueStore::find(std::int64_t event_id) {
  const Rows rows = session_.run(find_event_sql, {std::to_string(event_id).c_str()});
  if (rows.empty()) return std::nullopt;
  return event_of(rows, 0);
}

QueueStore::QueueClaim QueueStore::claim_queue(std::span<const int> lanes, const LaneStarts& starts,
                                               std::size_t limit, std::size_t bytes) {
  if (measured_ == 0) {
    const Rows rows = session_.run(claim_queue_sql,
                                   ClaimParameters(lanes, starts, limit, share_of(bytes, limit)));
    if (auto claim = light_claim_of(rows, limit)) return std::move(*claim);
    measured_ = measured_claims;
  } else {
    --measured_;
  }
  return measured_claim_of(
      session_.run(claim_measured_sql, ClaimParameters(lanes, starts, limit, bytes)), limit, bytes);
}

QueueStore::QueueClaim QueueStore::claim_ranked(std::span<const int> lanes,
                                                const LaneStarts& starts, std::size_t limit,
                                                std::size_t bytes, Turn turn) {
  const std::string number = std::to_string(static_cast<int>(turn));
  ClaimParameters parameters(lanes, starts, limit, bytes);
  parameters.add(number.c_str());
  QueueClaim claimed = measured_claim_of(session_.run(claim_ranked_sql, parameters), limit, bytes);
  claimed.ranked_left = true;
  if (claimed.events.empty())
    claimed.ranked_left = session_
                              .run({"sw_ranked_left",
                                    "SELECT EXISTS (SELECT FROM spillway.ranked WHERE lane = ANY "
                                    "($1::smallint[]))"},
                                   {integer_array(lanes).c_str()})
                              .boolean(0, 0);
  return claimed;
}

std::optional<std::vector<std::uint64_t>> QueueStore::queue_writers() {
  const Rows rows = session_.run(queue_writers_sql);
  std::vector<std::uint64_t> writers;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    writers.push_back(rows.integer<std::uint64_t>(row, 0));
    if (writers.back() == 0) return std::nullopt;
  }
  return writers;
}

}  // namespace spillway
