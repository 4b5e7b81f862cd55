#include "processor/replay_store.hpp"

#include <algorithm>
#include <string_view>
#include <thread>
#include <utility>

#include "effects/table_catalog.hpp"
#include "processor/queue_store.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Rows of the log that one read may look at, however few of them are wanted: it bounds how long a
// transaction takes where a filter is sparse.
constexpr const char* longest_look = "20000";

const Statement absolute_time_sql{"", "SELECT $1::timestamptz::text"};

// Whoever has drawn an id holds this lock on the log until its transaction ends. Visible in
// pg_locks to everybody, and without taking any lock of our own.
const Statement inserters_sql{"", R"(
SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}')
FROM pg_catalog.pg_locks l
WHERE l.relation = 'spillway.events'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND ($1::text[] IS NULL OR l.virtualtransaction = ANY ($1)))"};

const Statement insert_replay_sql{"", R"(
INSERT INTO spillway.replays (id, name, request, first_id, last_id, next_id)
SELECT n.id, coalesce($1, 'replay-' || n.id), $2::jsonb, b.first, b.last, b.first
FROM (SELECT nextval('spillway.replays_id_seq') AS id) n,
     (SELECT greatest($3::bigint, (SELECT min(id) FROM spillway.events WHERE id >= $3)) AS first,
             least($4::bigint, coalesce((SELECT max(id) FROM spillway.events), 0)) AS last) b
RETURNING id)"};

// Events that are not done, and the gaps among the ids above $2: their transactions may yet commit.
const Statement note_left_sql{"", R"(
INSERT INTO spillway.replay_left (replay_id, first_id, last_id, dead)
SELECT r.id, u.event_id, u.event_id, false
FROM spillway.replays r JOIN spillway.undone u ON u.event_id BETWEEN r.first_id AND r.last_id
WHERE r.id = $1
  AND NOT EXISTS (SELECT FROM spillway.dead_letters d WHERE d.event_id = u.event_id)
UNION ALL
SELECT r.id, d.event_id, d.event_id, $3::boolean
FROM spillway.replays r
JOIN spillway.dead_letters d ON d.event_id BETWEEN r.first_id AND r.last_id
WHERE r.id = $1
UNION ALL
SELECT g.replay_id, g.before + 1, g.id - 1, false
FROM (SELECT i.replay_id, i.id, lag(i.id, 1, i.below) OVER (ORDER BY i.id) AS before
      FROM (SELECT r.id AS replay_id, e.id, greatest($2, r.first_id - 1) AS below
            FROM spillway.replays r
            JOIN spillway.events e ON e.id > greatest($2, r.first_id - 1) AND e.id <= r.last_id
            WHERE r.id = $1
            UNION ALL
            SELECT r.id, r.last_id + 1, greatest($2, r.first_id - 1)
            FROM spillway.replays r WHERE r.id = $1 AND r.last_id > $2) i) g
WHERE g.id > g.before + 1
ON CONFLICT DO NOTHING)"};

#define SPILLWAY_REPLAY_SELECT                                                                 \
  "SELECT r.id, r.name, r.request, r.first_id, r.last_id, r.next_id, r.events, r.failed, "     \
  "r.effects, r.failures, r.run_by, r.started_at, r.updated_at, r.finished_at, r.last_error, " \
  "EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted"      \
  " AND l.classid = $1::oid AND l.objid = r.id::oid AND l.objsubid = 2 AND l.database = "      \
  "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())) "        \
  "FROM spillway.replays r "

const Statement find_by_name_sql{"", SPILLWAY_REPLAY_SELECT "WHERE r.name = $2"};
const Statement find_by_id_sql{"", SPILLWAY_REPLAY_SELECT "WHERE r.id = $2::bigint"};
const Statement list_sql{"", SPILLWAY_REPLAY_SELECT "ORDER BY r.id"};

const Statement take_sql{"", "UPDATE spillway.replays SET run_by = $2 WHERE id = $1"};

const Statement lock_sql{"sw_replay_lock",
                         "SELECT next_id FROM spillway.replays WHERE id = $1 FOR UPDATE"};

// The rows are walked in id order without their payloads, until $4 of them are wanted or $3 are
// seen (a CTE goes only as far as it is asked to; the greatest id is asked for in the second case
// alone). Those that are wanted are fetched behind that. Of the ranges that are left out only the
// one that begins last before the event can hold it. The size is that of the stored, maybe
// compressed, value.
const Statement read_log_sql{"sw_replay_read_log", R"(
WITH walk AS MATERIALIZED (
  SELECT e.id,
         CASE WHEN ($5::text[] IS NULL OR e.type = ANY ($5))
               AND ($6::text[] IS NULL OR e.stream = ANY ($6))
               AND ($7::timestamptz IS NULL OR e.created_at >= $7)
               AND ($8::timestamptz IS NULL OR e.created_at < $8)
              THEN coalesce((SELECT l.last_id < e.id
                               OR (l.dead AND EXISTS (SELECT FROM spillway.dead_letters d
                                                      WHERE d.event_id = e.id))
                             FROM spillway.replay_left l
                             WHERE l.replay_id = $9 AND l.first_id <= e.id
                             ORDER BY l.first_id DESC LIMIT 1), true)
              ELSE false END AS wanted
  FROM spillway.events e WHERE e.id >= $1 AND e.id <= $2 ORDER BY e.id LIMIT $3::int
), chosen AS MATERIALIZED (
  SELECT id FROM walk WHERE wanted LIMIT $4::int
)
SELECT read.*, CASE WHEN (SELECT count(*) FROM chosen) < $4::int THEN (SELECT max(id) FROM walk) END
FROM (VALUES (1)) AS one
LEFT JOIN (
  SELECT * FROM (
    SELECT )" SPILLWAY_EVENT_COLUMNS R"(, 0 AS lane,
           sum(pg_column_size(e.payload) + pg_column_size(e.context))
             OVER (ORDER BY chosen.id ROWS UNBOUNDED PRECEDING) AS bytes,
           pg_column_size(e.payload) + pg_column_size(e.context) AS own_bytes
    FROM chosen
    CROSS JOIN LATERAL (SELECT * FROM spillway.events WHERE events.id = chosen.id OFFSET 0) e
  ) sized WHERE bytes - own_bytes <= $10::bigint
) read ON true
ORDER BY read.id)"};

const Statement save_sql{"sw_replay_save", R"(
UPDATE spillway.replays
SET next_id = $2, events = $3, failed = $4, effects = $5::jsonb, failures = $6::jsonb,
    last_error = $7, updated_at = clock_timestamp(),
    finished_at = CASE WHEN $2::bigint > last_id THEN clock_timestamp() END
WHERE id = $1)"};

const Statement forget_left_sql{"sw_replay_forget_left",
                                "DELETE FROM spillway.replay_left WHERE replay_id = $1"};

std::string text_of(const Rows& rows, std::size_t row, std::size_t column) {
  return rows.is_null(row, column) ? std::string() : rows.string(row, column);
}

ReplayState state_of(const Rows& rows, std::size_t row) {
  ReplayState state;
  state.id = rows.integer(row, 0);
  state.name = rows.string(row, 1);
  state.request = replay_request_from_json(json::parse(rows.text(row, 2)));
  state.first = rows.integer(row, 3);
  state.last = rows.integer(row, 4);
  state.next = rows.integer(row, 5);
  state.events = rows.integer(row, 6);
  state.failed = rows.integer(row, 7);
  const json asked = json::parse(rows.text(row, 8));
  for (std::size_t kind = 0; kind < effect_kind_count; ++kind)
    state.asked[kind] = asked.value(std::string(effect_kind_names()[kind]), std::size_t{0});
  for (const json& failure : json::parse(rows.text(row, 9)))
    state.failures.push_back(
        {failure.at("event_id").get<std::int64_t>(), failure.at("error").get<std::string>()});
  state.run_by = text_of(rows, row, 10);
  state.started_at = rows.string(row, 11);
  state.updated_at = rows.string(row, 12);
  if (!rows.is_null(row, 13)) state.finished_at = rows.string(row, 13);
  state.last_error = text_of(rows, row, 14);
  state.running = rows.boolean(row, 15);
  return state;
}

// A text[] literal; none for an empty list.
std::optional<std::string> text_array(const std::vector<std::string>& texts) {
  if (texts.empty()) return std::nullopt;
  std::string array = "{";
  for (const std::string& text : texts) append_array_element(array, text);
  return array += '}';
}

const char* or_null(const std::optional<std::string>& text) {
  return text ? text->c_str() : nullptr;
}

}  // namespace

std::string ReplayStore::absolute_time(const std::string& text) {
  try {
    return session_.run(absolute_time_sql, {text.c_str()}).string(0, 0);
  } catch (const SqlError& error) {
    if (!error.sqlstate().starts_with("22")) throw;
    throw std::invalid_argument(
        "write a time such as 2026-01-31T12:00:00Z or \"2 days ago\", not \"" + text + "\"");
  }
}

// An id up to which nothing can appear in the log any more. Every id up to the greatest there is
// was drawn by a transaction that has ended or holds its lock on the log now; so once those that
// hold it now have ended, all of them are settled. With long transactions there is nothing to wait
// for: then only what lies below the range is.
std::int64_t ReplayStore::settled(std::int64_t from, milliseconds patience) {
  const std::int64_t greatest =
      session_.exec("SELECT coalesce(max(id), 0) FROM spillway.events").integer(0, 0);
  const std::string inserters = session_.run(inserters_sql, {nullptr}).string(0, 0);
  const auto deadline = steady_clock::now() + patience;
  for (std::string left = inserters; left != "{}";
       left = session_.run(inserters_sql, {inserters.c_str()}).string(0, 0)) {
    if (steady_clock::now() >= deadline) return from - 1;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return greatest;
}

// "a", "b"
std::string ReplayStore::lock_tables(const std::vector<std::string>& tables) {
  TableCatalog catalog(session_);
  std::string list;
  for (const std::string& name : tables) {
    std::shared_ptr<const Table> table;
    try {
      table = catalog.find(name);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("the table name \"" + name + "\" " + error.what());
    }
    if (!table) throw std::invalid_argument("there is no table \"" + name + "\" to empty");
    list.append(list.empty() ? "" : ", ").append(table->quoted);
  }
  return list;
}

ReplayState ReplayStore::begin(const std::string& name, const ReplayRequest& request,
                               milliseconds patience) {
  const std::string tables = lock_tables(request.truncate);
  std::int64_t id = 0;
  for (int attempt = 1;; ++attempt) {
    const std::int64_t settled_to = settled(request.from, patience);
    // One snapshot says which events are done. LOCK takes none: with tables to empty, the snapshot
    // is taken once nobody can be writing to them any more, so an event is either done and its rows
    // are taken away here, or it is left to live work, which writes them behind this.
    session_.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
    try {
      if (!tables.empty()) {
        session_.exec("SET LOCAL lock_timeout = '5s'");
        session_.exec("LOCK TABLE " + tables + " IN ACCESS EXCLUSIVE MODE");
        session_.exec("TRUNCATE " + tables);
      }
      id = session_
               .run(insert_replay_sql,
                    {name.empty() ? nullptr : name.c_str(), to_json(request).dump().c_str(),
                     std::to_string(request.from).c_str(),
                     request.to ? std::to_string(*request.to).c_str() : nullptr})
               .integer(0, 0);
      session_.run(note_left_sql, {std::to_string(id).c_str(), std::to_string(settled_to).c_str(),
                                   request.include_dead ? "true" : "false"});
      session_.exec("COMMIT");
      return read(id);
    } catch (const SqlError& error) {
      session_.exec("ROLLBACK");
      if (error.sqlstate() == "23505")
        throw ReplayError("there is a replay \"" + name + "\" already");
      if (error.sqlstate() == "55P03")
        throw ReplayError("a table that was to be emptied is in use by a long transaction: " +
                          std::string(error.what()) + "; nothing was changed, try again later");
      if (error.sqlstate() != "40P01" || attempt == 5) throw;
    }
  }
}

std::optional<ReplayState> ReplayStore::find(const std::string& name) {
  const Rows rows =
      session_.run(find_by_name_sql, {std::to_string(replay_lock_class).c_str(), name.c_str()});
  if (rows.empty()) return std::nullopt;
  return state_of(rows, 0);
}

ReplayState ReplayStore::read(std::int64_t id) {
  const Rows rows = session_.run(
      find_by_id_sql, {std::to_string(replay_lock_class).c_str(), std::to_string(id).c_str()});
  if (rows.empty()) throw ReplayError("the replay is not in spillway.replays any more");
  return state_of(rows, 0);
}

std::vector<ReplayState> ReplayStore::list() {
  const Rows rows = session_.run(list_sql, {std::to_string(replay_lock_class).c_str()});
  std::vector<ReplayState> all;
  for (std::size_t row = 0; row < rows.size(); ++row) all.push_back(state_of(rows, row));
  return all;
}

void ReplayStore::take(std::int64_t id, const std::string& run_by) {
  session_.run(take_sql, {std::to_string(id).c_str(), run_by.c_str()});
}

void ReplayStore::lock(const ReplayState& state) {
  const Rows rows = session_.run(lock_sql, {std::to_string(state.id).c_str()});
  if (rows.empty())
    throw ReplayError("replay \"" + state.name + "\" is not in spillway.replays any more");
  if (rows.integer(0, 0) != state.next)
    throw ReplayError("somebody else runs replay \"" + state.name + "\" too; it stands at event " +
                      rows.string(0, 0));
}

ReplayStore::Page ReplayStore::read_log(const ReplayState& state, std::size_t limit,
                                        std::size_t bytes) {
  const auto types = text_array(state.request.types);
  const auto streams = text_array(state.request.streams);
  const Rows rows = session_.run(
      read_log_sql, {std::to_string(state.next).c_str(), std::to_string(state.last).c_str(),
                     longest_look, std::to_string(limit).c_str(), or_null(types), or_null(streams),
                     or_null(state.request.since), or_null(state.request.until),
                     std::to_string(state.id).c_str(), std::to_string(bytes).c_str()});
  constexpr std::size_t bytes_column = event_columns + 1;
  constexpr std::size_t walked_column = event_columns + 3;
  Page page;
  bool cut = false;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rows.is_null(row, 0)) continue;  // rows were walked, none was wanted
    page.events.push_back(event_of(rows, row));
    // The row that passes the limit is the last one that is given.
    cut = rows.integer<std::size_t>(row, bytes_column) > bytes;
  }
  cut = cut || page.events.size() >= limit;
  if (cut)
    page.next = page.events.back().event.id + 1;
  else if (rows.is_null(0, walked_column))
    page.next = state.last + 1;  // there is nothing more
  else
    page.next = rows.integer(0, walked_column) + 1;
  return page;
}

void ReplayStore::save(const ReplayState& state) {
  json asked = json::object();
  for (std::size_t kind = 0; kind < effect_kind_count; ++kind)
    if (state.asked[kind] > 0) asked[std::string(effect_kind_names()[kind])] = state.asked[kind];
  json failures = json::array();
  for (const auto& failure : state.failures)
    failures.push_back({{"event_id", failure.event_id}, {"error", failure.error}});
  const std::string id = std::to_string(state.id);
  session_.run(
      save_sql,
      {id.c_str(), std::to_string(state.next).c_str(), std::to_string(state.events).c_str(),
       std::to_string(state.failed).c_str(), asked.dump().c_str(), failures.dump().c_str(),
       state.last_error.empty() ? nullptr : state.last_error.c_str()});
  if (state.next > state.last) session_.run(forget_left_sql, {id.c_str()});
}

}  // namespace spillway
