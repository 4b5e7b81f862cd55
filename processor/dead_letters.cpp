#include "processor/dead_letters.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>
#include <utility>

namespace spillway {
namespace {

using nlohmann::json;

// The events are looked up one by one (OFFSET 0): left to itself the planner may choose a merge
// join that walks the log from its beginning.
#define SPILLWAY_DEAD             \
  " FROM spillway.dead_letters d" \
  " CROSS JOIN LATERAL (SELECT * FROM spillway.events WHERE events.id = d.event_id OFFSET 0) e "

// Its parameters are those that Bound gives.
#define SPILLWAY_DEAD_FILTER                                               \
  " WHERE (cardinality($1::text[]) = 0 OR e.type = ANY ($1::text[]))"      \
  " AND ($2::text IS NULL OR strpos(lower(d.error), lower($2::text)) > 0)" \
  " AND ($3::text IS NULL OR starts_with(d.sqlstate, $3::text)"            \
  "      OR ($3::text = 'none' AND d.sqlstate IS NULL))"                   \
  " AND ($4::text IS NULL OR e.stream = $4::text)"                         \
  " AND ($5::timestamptz IS NULL OR d.failed_at >= $5::timestamptz)"       \
  " AND ($6::timestamptz IS NULL OR d.failed_at < $6::timestamptz) "

#define SPILLWAY_ISO(time) \
  "to_char(" time " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

#define SPILLWAY_HOLDS "EXISTS (SELECT FROM spillway.waiting w WHERE w.event_id = d.event_id)"

// Read by letter_of().
#define SPILLWAY_DEAD_COLUMNS                                \
  "d.event_id, e.type, e.stream, d.attempts, " SPILLWAY_ISO( \
      "d.failed_at") ", d.sqlstate, d.error, " SPILLWAY_HOLDS " "
constexpr std::size_t letter_columns = 8;

const Statement list_sql{"sw_dead_list",
                         "SELECT " SPILLWAY_DEAD_COLUMNS SPILLWAY_DEAD SPILLWAY_DEAD_FILTER
                         "ORDER BY d.failed_at DESC, d.event_id DESC LIMIT $7::bigint"};

const Statement count_sql{"sw_dead_count", "SELECT count(*)" SPILLWAY_DEAD SPILLWAY_DEAD_FILTER};

const Statement ids_sql{"sw_dead_ids",
                        "SELECT d.event_id" SPILLWAY_DEAD SPILLWAY_DEAD_FILTER
                        "AND d.event_id > $7::bigint ORDER BY d.event_id LIMIT $8::bigint"};

// Errors begin with "event 17 (Type): ", which tells nothing that the group does not.
const Statement group_sql{"sw_dead_group",
                          "SELECT count(*), type, error, " SPILLWAY_ISO("max(failed_at)")
                              R"(, (array_agg(event_id ORDER BY failed_at DESC, event_id DESC))[1]
FROM (
  SELECT d.event_id, d.failed_at, e.type,
         regexp_replace(regexp_replace(split_part(
           CASE WHEN starts_with(d.error, format('event %s (%s): ', e.id, e.type))
                THEN substr(d.error, length(format('event %s (%s): ', e.id, e.type)) + 1)
                ELSE d.error END, E'\n', 1),
           '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'UUID', 'gi'),
           '[0-9]+', 'N', 'g') AS error)" SPILLWAY_DEAD SPILLWAY_DEAD_FILTER R"() letter
GROUP BY type, error ORDER BY count(*) DESC, max(failed_at) DESC LIMIT $7::bigint)"};

const Statement find_sql{
    "sw_dead_find",
    "SELECT " SPILLWAY_DEAD_COLUMNS
    ", jsonb_pretty(e.payload), jsonb_pretty(e.context), e.correlation_id, e.causation_id,"
    " e.stream_version, e.idempotency_key, e.max_attempts, e.priority, " SPILLWAY_ISO(
        "e.created_at") ", " SPILLWAY_ISO("e.execute_at") R"(, h.held,
  json_build_object('event_id', d.event_id, 'type', e.type, 'stream', e.stream,
    'stream_version', e.stream_version, 'attempts', d.attempts, 'max_attempts', e.max_attempts,
    'failed_at', )" SPILLWAY_ISO("d.failed_at") R"(, 'sqlstate', d.sqlstate, 'error', d.error,
    'holds_stream', )" SPILLWAY_HOLDS
                                                R"(, 'held', h.held, 'payload', e.payload,
    'context', e.context, 'correlation_id', e.correlation_id, 'causation_id', e.causation_id,
    'idempotency_key', e.idempotency_key, 'priority', e.priority,
    'created_at', )" SPILLWAY_ISO("e.created_at") ", 'execute_at', " SPILLWAY_ISO(
                                                    "e.execute_at") ")" SPILLWAY_DEAD R"(
CROSS JOIN LATERAL (
  SELECT count(*) AS held FROM spillway.waiting behind
  WHERE behind.stream = e.stream AND behind.event_id > e.id AND )" SPILLWAY_HOLDS R"() h
WHERE d.event_id = $1::bigint)"};

const Statement status_sql{
    "sw_dead_status",
    "SELECT status || coalesce(', ' || last_error, '') FROM spillway.event_status"
    " WHERE event_id = $1::bigint"};

const Statement retry_sql{"sw_dead_retry",
                          "SELECT id FROM unnest($1::bigint[]) AS id WHERE NOT spillway.retry(id)"};
const Statement discard_sql{
    "sw_dead_discard", "SELECT id FROM unnest($1::bigint[]) AS id WHERE NOT spillway.discard(id)"};

// A filter as parameters, and room for two more.
class Bound {
 public:
  explicit Bound(const DeadFilter& filter, std::vector<std::string> more = {})
      : more_(std::move(more)) {
    for (const std::string& type : filter.types) append_array_element(types_, type);
    types_ += '}';
    const auto or_null = [](const std::string& text) {
      return text.empty() ? nullptr : text.c_str();
    };
    parameters_ = {types_.c_str(),           or_null(filter.error),
                   or_null(filter.sqlstate), filter.stream ? filter.stream->c_str() : nullptr,
                   or_null(filter.since),    or_null(filter.until)};
    for (const std::string& text : more_) parameters_.push_back(text.c_str());
  }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;
  [[nodiscard]] std::span<const Parameter> parameters() const { return parameters_; }

 private:
  std::string types_ = "{";
  std::vector<std::string> more_;
  std::vector<Parameter> parameters_;
};

std::optional<std::string> text_or_none(const Rows& rows, std::size_t row, std::size_t column) {
  if (rows.is_null(row, column)) return std::nullopt;
  return rows.string(row, column);
}

template <typename Int>
std::optional<Int> integer_or_none(const Rows& rows, std::size_t row, std::size_t column) {
  if (rows.is_null(row, column)) return std::nullopt;
  return rows.integer<Int>(row, column);
}

DeadLetter letter_of(const Rows& rows, std::size_t row) {
  DeadLetter letter;
  letter.event_id = rows.integer(row, 0);
  letter.type = rows.string(row, 1);
  letter.stream = text_or_none(rows, row, 2);
  letter.attempts = rows.integer<int>(row, 3);
  letter.failed_at = rows.string(row, 4);
  letter.sqlstate = text_or_none(rows, row, 5);
  letter.error = rows.string(row, 6);
  letter.holds_stream = rows.boolean(row, 7);
  return letter;
}

template <typename Value>
json or_null(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

// "2h": how many milliseconds; none when it is no duration with a unit.
std::optional<std::int64_t> duration_of(const std::string& text) {
  double number = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
  if (end.ec != std::errc{} || number < 0) return std::nullopt;
  const std::string_view unit(end.ptr,
                              static_cast<std::size_t>(text.data() + text.size() - end.ptr));
  constexpr std::array<std::pair<std::string_view, double>, 5> units{
      {{"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}}};
  for (const auto& [name, factor] : units)
    if (unit == name && number * factor < 1e14) return static_cast<std::int64_t>(number * factor);
  return std::nullopt;
}

}  // namespace

bool DeadFilter::empty() const {
  return types.empty() && error.empty() && sqlstate.empty() && !stream && since.empty() &&
         until.empty();
}

json to_json(const DeadLetter& letter) {
  return {{"event_id", letter.event_id},
          {"type", letter.type},
          {"stream", or_null(letter.stream)},
          {"attempts", letter.attempts},
          {"failed_at", letter.failed_at},
          {"sqlstate", or_null(letter.sqlstate)},
          {"error", letter.error},
          {"holds_stream", letter.holds_stream}};
}

json to_json(const DeadGroup& group) {
  return {{"count", group.count},
          {"type", group.type},
          {"error", group.error},
          {"last_failed_at", group.last_failed_at},
          {"last_event_id", group.last_event_id}};
}

std::vector<DeadLetter> read_dead(SqlSession& session, const DeadFilter& filter,
                                  std::size_t limit) {
  const Bound bound(filter, {std::to_string(limit)});
  const Rows rows = session.run(list_sql, bound.parameters());
  std::vector<DeadLetter> letters;
  letters.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) letters.push_back(letter_of(rows, row));
  return letters;
}

std::int64_t count_dead(SqlSession& session, const DeadFilter& filter) {
  return session.run(count_sql, Bound(filter).parameters()).integer(0, 0);
}

std::vector<DeadGroup> group_dead(SqlSession& session, const DeadFilter& filter,
                                  std::size_t limit) {
  const Bound bound(filter, {std::to_string(limit)});
  const Rows rows = session.run(group_sql, bound.parameters());
  std::vector<DeadGroup> groups;
  groups.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row)
    groups.push_back({rows.integer(row, 0), rows.string(row, 1), rows.string(row, 2),
                      rows.string(row, 3), rows.integer(row, 4)});
  return groups;
}

std::optional<DeadEvent> find_dead(SqlSession& session, std::int64_t event_id) {
  const Rows rows = session.run(find_sql, {std::to_string(event_id).c_str()});
  if (rows.empty()) return std::nullopt;
  DeadEvent event;
  event.letter = letter_of(rows, 0);
  std::size_t column = letter_columns;
  event.payload = rows.string(0, column++);
  event.context = rows.string(0, column++);
  event.correlation_id = rows.string(0, column++);
  event.causation_id = integer_or_none<std::int64_t>(rows, 0, column++);
  event.stream_version = integer_or_none<int>(rows, 0, column++);
  event.idempotency_key = text_or_none(rows, 0, column++);
  event.max_attempts = integer_or_none<int>(rows, 0, column++);
  event.priority = rows.integer<int>(0, column++);
  event.created_at = rows.string(0, column++);
  event.execute_at = rows.string(0, column++);
  event.held = rows.integer(0, column++);
  event.json = rows.string(0, column++);
  return event;
}

std::string status_of(SqlSession& session, std::int64_t event_id) {
  const Rows rows = session.run(status_sql, {std::to_string(event_id).c_str()});
  return rows.empty() ? std::string() : rows.string(0, 0);
}

std::string time_of(SqlSession& session, const std::string& text) {
  try {
    if (const auto ago = duration_of(text))
      return session
          .run({"", "SELECT clock_timestamp() - $1::bigint * interval '1 millisecond'"},
               {std::to_string(*ago).c_str()})
          .string(0, 0);
    return session.run({"", "SELECT $1::timestamptz"}, {text.c_str()}).string(0, 0);
  } catch (const SqlError& error) {
    if (!error.sqlstate().starts_with("22")) throw;
    throw std::invalid_argument(
        "\"" + text + "\": write a time such as 2026-01-31T12:00:00Z, or how long ago, e.g. 2h");
  }
}

std::vector<std::int64_t> dead_ids(SqlSession& session, const DeadFilter& filter,
                                   std::int64_t after, std::size_t limit) {
  const Bound bound(filter, {std::to_string(after), std::to_string(limit)});
  const Rows rows = session.run(ids_sql, bound.parameters());
  std::vector<std::int64_t> ids;
  ids.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) ids.push_back(rows.integer(row, 0));
  return ids;
}

std::vector<std::int64_t> act_on_dead(SqlSession& session, DeadAction action,
                                      std::span<const std::int64_t> event_ids) {
  std::string ids = "{";
  for (const std::int64_t id : event_ids) append_array_element(ids, id);
  const Rows rows =
      session.run(action == DeadAction::retry ? retry_sql : discard_sql, {(ids += '}').c_str()});
  std::vector<std::int64_t> refused;
  for (std::size_t row = 0; row < rows.size(); ++row) refused.push_back(rows.integer(row, 0));
  return refused;
}

}  // namespace spillway
