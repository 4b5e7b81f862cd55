#include "effects/write_compiler.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "effects/effect_error.hpp"
#include "effects/names.hpp"
#include "effects/plain_rows.hpp"
#include "effects/serialize.hpp"
#include "effects/webhook_headers.hpp"
#include "effects/webhook_url.hpp"

namespace spillway {
namespace {

using Repeat = WriteShape::Repeat;

// Column sets come from payloads, so the number of statement shapes has no natural bound.
constexpr std::size_t max_shapes = 256;
constexpr std::size_t max_key_bytes = 1024;  // of a KV key; an index entry has its limits
constexpr std::size_t max_name_bytes = 255;  // of a webhook

// Ours; users' tables have larger oids, so neither is ever taken for one of them.
constexpr std::uint32_t events_oid = 1;
constexpr std::uint32_t kv_oid = 2;
constexpr std::uint32_t webhooks_oid = 3;

constexpr const char* schedule_sql = R"(
INSERT INTO spillway.events (type, payload, stream, idempotency_key, execute_at, correlation_id,
                             causation_id)
SELECT e.type, coalesce(e.payload, 'null'), e.stream, e.idempotency_key,
       coalesce(e.at, now() + e.delay * interval '1 second', now()), e.correlation_id, e.causation_id
FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS item(value, number)
CROSS JOIN LATERAL jsonb_to_record(item.value) AS e(
  type text, payload jsonb, stream text, idempotency_key text, at timestamptz, delay float8,
  correlation_id uuid, causation_id bigint)
ORDER BY item.number
ON CONFLICT (idempotency_key) DO NOTHING)";

constexpr const char* webhook_sql = R"(
INSERT INTO spillway.webhooks (event_id, correlation_id, name, url, host, payload, headers)
SELECT event_id, correlation_id, name, url, host, coalesce(payload, 'null'), headers
FROM jsonb_to_recordset($1::jsonb) AS w(
  event_id bigint, correlation_id uuid, name text, url text, host text, payload jsonb,
  headers jsonb))";

constexpr const char* kv_sql = R"(
WITH item AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(key text, value jsonb, ttl float8, gone bool)
), removed AS (
  DELETE FROM spillway.kv USING item WHERE kv.key = item.key AND item.gone
)
INSERT INTO spillway.kv (key, value, expires_at)
SELECT key, coalesce(value, 'null'), clock_timestamp() + ttl * interval '1 second'
FROM item WHERE gone IS NOT TRUE
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at)";

std::shared_ptr<const WriteShape> own_shape(std::uint32_t oid, const char* name, const char* sql,
                                            const char* label, Repeat repeat) {
  auto table = std::make_shared<Table>();
  table->oid = oid;
  table->family = {oid};
  auto shape = std::make_shared<WriteShape>();
  shape->table = std::move(table);
  shape->statement = {name, sql};
  shape->label = label;
  shape->repeat = repeat;
  return shape;
}

void require_columns(const json& object, std::size_t index, const char* kind, const char* field) {
  if (!object.is_object())
    throw EffectError(index, kind, field,
                      std::string("must be an object of columns, not ") + object.type_name());
  if (object.empty()) throw EffectError(index, kind, field, "is empty; name at least one column");
}

std::string column_names(const Table& table) {
  std::string names;
  for (const auto& [column, type] : table.columns)
    names.append(names.empty() ? "" : ", ").append(column);
  return names;
}

std::string column_list(const json& row) {
  std::string columns;
  for (const auto& [column, value] : row.items())
    columns.append(columns.empty() ? "" : ", ").append(quote_identifier(column));
  return columns;
}

std::string rows_of(const Table& table) {
  return "pg_catalog.jsonb_populate_recordset(NULL::" + table.quoted + ", $1::jsonb)";
}

// "SELECT c1, c2::bigint FROM unnest(…)" for plain rows with these columns; empty when a column's
// type is not plain.
std::string plain_source(const Table& table, const json& row) {
  std::string values, arrays, names;
  std::size_t number = 0;
  for (const auto& [column, value] : row.items()) {
    const auto cast = plain_cast(table.columns.at(column));
    if (!cast) return {};
    const char* const comma = number == 0 ? "" : ", ";
    const std::string n = std::to_string(++number);
    values.append(comma).append("c").append(n).append(*cast);
    arrays.append(comma).append("pg_catalog.unnest($").append(n).append("::text[])");
    names.append(comma).append("c").append(n);
  }
  return "SELECT " + values + " FROM ROWS FROM (" + arrays + ") AS r(" + names + ")";
}

// The conditions of a where, of which `record` holds the values. Null is told by the shape.
std::string conditions(const json& where, const std::string& record) {
  std::string sql;
  for (const auto& [column, value] : where.items()) {
    const std::string name = quote_identifier(column);
    sql.append(sql.empty() ? "" : " AND ").append("t.").append(name);
    if (value.is_null())
      sql += " IS NULL";
    else
      sql.append(" = (").append(record).append(").").append(name);
  }
  return sql;
}

// The columns by which the rows of `where` can be told apart: different values mean different rows,
// and the same ones the same row. A whole unique key, in types in which different JSON is different
// SQL. Empty when there is none.
std::vector<std::string> identity_in(const Table& table, const json& where) {
  const auto exact = [&](const std::string& column) {
    const auto value = where.find(column);
    const auto found = table.columns.find(column);
    if (value == where.end() || found == table.columns.end()) return false;
    const std::string& type = found->second;
    if (type == "bigint" || type == "integer" || type == "smallint")
      return value->is_number_integer();
    return type == "text" && value->is_string();
  };
  const auto key = std::find_if(table.keys.begin(), table.keys.end(), [&](const auto& columns) {
    return std::all_of(columns.begin(), columns.end(), exact);
  });
  return key == table.keys.end() ? std::vector<std::string>() : *key;
}

}  // namespace

WriteCompiler::WriteCompiler(SqlSession& session, bool as_json)
    : session_(session),
      as_json_(as_json),
      catalog_(session),
      schedule_(
          own_shape(events_oid, "sw_schedule", schedule_sql, "ScheduleEvent", Repeat::together)),
      webhook_(
          own_shape(webhooks_oid, "sw_webhook", webhook_sql, "TriggerWebhook", Repeat::together)),
      kv_(own_shape(kv_oid, "sw_kv", kv_sql, "KVSet", Repeat::last)) {}

// Names come from payloads and may hold any byte, so each is preceded by its length: no two shapes
// share a key.
void WriteCompiler::key_name(char mark, std::string_view name) {
  char length[24];
  const auto end = std::to_chars(length, length + sizeof length, name.size());
  key_.append(1, mark).append(length, end.ptr).append(1, ':').append(name);
}

void WriteCompiler::key_of(char kind, const std::string& table) {
  key_.clear();
  key_name(kind, table);
}

void WriteCompiler::key_add(const json& row, bool null_matters) {
  key_ += '/';
  for (const auto& [column, value] : row.items())
    key_name(null_matters && value.is_null() ? '0' : 'c', column);
}

std::shared_ptr<const Table> WriteCompiler::table_with(const std::string& name,
                                                       const std::vector<const json*>& rows,
                                                       std::size_t index, const char* kind,
                                                       const char* field) {
  std::shared_ptr<const Table> table;
  const auto look_up = [&] {
    try {
      table = catalog_.find(name);
    } catch (const std::invalid_argument& problem) {
      throw EffectError(index, kind, "table", "\"" + name + "\" " + problem.what());
    }
    if (table == nullptr)
      throw EffectError(index, kind, "table", "there is no table \"" + name + "\"");
  };
  look_up();
  for (bool again : {true, false}) {
    for (const json* row : rows) {
      const auto unknown =
          std::find_if(row->items().begin(), row->items().end(),
                       [&](const auto& item) { return !table->columns.contains(item.key()); });
      if (unknown == row->items().end()) continue;
      if (!again)
        throw EffectError(index, kind, field,
                          "table \"" + name + "\" has no column \"" + unknown.key() +
                              "\"; it has " + column_names(*table));
      catalog_.clear();  // it may have been added since the table was looked up
      look_up();
      break;
    }
  }
  return table;
}

template <typename Check, typename Make>
const WriteCompiler::Shape& WriteCompiler::shape(const std::string& table, const char* label,
                                                 Check&& check, Make&& make) {
  if (const auto known = shapes_.find(key_); known != shapes_.end()) return known->second;
  check();
  auto made = std::make_shared<WriteShape>();
  made->table = catalog_.find(table);
  made->label = std::string(label) + " " + made->table->name;
  make(*made->table, *made);
  if (shapes_.size() >= max_shapes) forget_schema();
  // A session may see more than one compiler in its life, and a name means one text.
  static std::atomic<std::uint64_t> number{0};
  made->statement.name = "sw_write_" + std::to_string(++number);
  return shapes_.emplace(key_, std::move(made)).first->second;
}

template <typename WriteOf>
void WriteCompiler::compile_rows(const json& data, std::size_t index, const char* kind,
                                 std::vector<Write>& writes, WriteOf&& write_of) {
  const bool list = data.is_array();
  if (!list && !data.is_object())
    throw EffectError(
        index, kind, "data",
        std::string("must be an object of columns or an array of such objects, not ") +
            data.type_name());
  const auto add = [&](const json& row) {
    Write write = write_of(row);
    write.effect = index;
    // Rows of one effect that have the same columns travel together.
    if (write.shape->repeat == Repeat::together && !writes.empty() &&
        writes.back().effect == index && writes.back().shape == write.shape) {
      append_rows(*write.shape, writes.back().rows, write.rows);
      return;
    }
    writes.push_back(std::move(write));
  };
  if (!list) return add(data);
  for (std::size_t row = 0; row < data.size(); ++row) {
    if (!data[row].is_object())
      throw EffectError(index, kind, "data[" + std::to_string(row) + "]",
                        std::string("must be an object of columns, not ") + data[row].type_name());
    add(data[row]);
  }
}

void WriteCompiler::compile(const Insert& effect, std::size_t index, std::vector<Write>& writes) {
  compile_rows(effect.data, index, "Insert", writes, [&](const json& row) {
    const bool ignore = effect.on_conflict == OnConflict::ignore;
    const bool plain = !as_json_ && is_plain(row);
    key_of(plain ? (ignore ? 'p' : 'P') : (ignore ? 'i' : 'I'), effect.table);
    key_add(row, false);
    Write write;
    const auto check = [&] { table_with(effect.table, {&row}, index, "Insert", "data"); };
    write.shape =
        shape(effect.table, "Insert into", check, [&](const Table& table, WriteShape& made) {
          const std::string source = plain ? plain_source(table, row) : "";
          if (!source.empty()) made.plain_columns = row.size();
          std::string& sql = made.statement.text;
          sql = "INSERT INTO " + table.quoted;
          if (row.empty())  // a row that names no column is all defaults
            sql += " SELECT FROM pg_catalog.jsonb_array_elements($1::jsonb)";
          else if (made.plain_columns > 0)
            sql += " (" + column_list(row) + ") " + source;
          else  // one parameter whatever the columns; PostgreSQL converts every type
            sql += " (" + column_list(row) + ") SELECT " + column_list(row) + " FROM " +
                   rows_of(table);
          if (ignore) sql += " ON CONFLICT DO NOTHING";
        });
    if (write.shape->plain_columns == 0 || !append_plain(write.rows, row))
      write.rows = serialize(row, index, "Insert", "data");
    return write;
  });
}

void WriteCompiler::compile(const Upsert& effect, std::size_t index, std::vector<Write>& writes) {
  if (effect.key.empty())
    throw EffectError(index, "Upsert", "key", "is empty; name the columns of a unique index");
  compile_rows(effect.data, index, "Upsert", writes, [&](const json& row) {
    Write write;
    for (const std::string& column : effect.key) {
      const auto value = row.find(column);
      if (value == row.end())
        throw EffectError(index, "Upsert", "key", "column \"" + column + "\" is not in data");
      write.key += serialize(*value, index, "Upsert", "data");
      write.key += ',';
    }
    key_of('U', effect.table);
    key_add(row, false);
    for (const std::string& column : effect.key) key_name('k', column);
    const auto check = [&] { table_with(effect.table, {&row}, index, "Upsert", "data"); };
    write.shape =
        shape(effect.table, "Upsert into", check, [&](const Table& table, WriteShape& made) {
          std::string keys;
          for (const std::string& column : effect.key)
            keys.append(keys.empty() ? "" : ", ").append(quote_identifier(column));
          std::string sets;
          for (const auto& [column, value] : row.items()) {
            if (std::find(effect.key.begin(), effect.key.end(), column) != effect.key.end())
              continue;
            const std::string name = quote_identifier(column);
            sets.append(sets.empty() ? "" : ", ").append(name).append(" = excluded.").append(name);
          }
          made.statement.text = "INSERT INTO " + table.quoted + " (" + column_list(row) +
                                ") SELECT " + column_list(row) + " FROM " + rows_of(table) +
                                " ON CONFLICT (" + keys + ") DO " +
                                (sets.empty() ? "NOTHING" : "UPDATE SET " + sets);
          // Two spellings of one key in a statement are an error of PostgreSQL's, and then done
          // apart.
          made.repeat = Repeat::apart;
        });
    write.rows = serialize(row, index, "Upsert", "data");
    return write;
  });
}

void WriteCompiler::compile(const Update& effect, std::size_t index, std::vector<Write>& writes) {
  require_columns(effect.set, index, "Update", "set");
  require_columns(effect.where, index, "Update", "where");
  key_of('S', effect.table);
  key_add(effect.set, false);
  key_add(effect.where, true);
  // Whether rows can be told apart depends on the kinds of the values too.
  for (const auto& [column, value] : effect.where.items())
    key_ += value.is_number_integer() ? 'n' : value.is_string() ? 's' : 'o';
  const auto check = [&] {
    table_with(effect.table, {&effect.set}, index, "Update", "set");
    table_with(effect.table, {&effect.where}, index, "Update", "where");
  };
  Write write;
  write.effect = index;
  write.shape = shape(effect.table, "Update of", check, [&](const Table& table, WriteShape& made) {
    std::string sets;
    bool moves = false;
    for (const auto& [column, value] : effect.set.items()) {
      const std::string name = quote_identifier(column);
      sets.append(sets.empty() ? "" : ", ").append(name).append(" = (v.s).").append(name);
      moves = moves || effect.where.contains(column);
    }
    // OFFSET 0 keeps the records from being built once for every column.
    made.statement.text =
        "UPDATE " + table.quoted + " AS t SET " + sets +
        " FROM (SELECT pg_catalog.jsonb_populate_record(NULL::" + table.quoted +
        ", x.value->'s') AS s, pg_catalog.jsonb_populate_record(NULL::" + table.quoted +
        ", x.value->'w') AS w FROM pg_catalog.jsonb_array_elements($1::jsonb) AS x(value) OFFSET "
        "0) v"
        " WHERE " +
        conditions(effect.where, "v.w");
    if (!moves) made.identity = identity_in(table, effect.where);
    made.repeat = made.identity.empty() ? Repeat::alone : Repeat::apart;
  });
  const std::string where = serialize(effect.where, index, "Update", "where");
  write.rows = "{\"s\":" + serialize(effect.set, index, "Update", "set") + ",\"w\":" + where + "}";
  for (const std::string& column : write.shape->identity)
    write.key += effect.where.at(column).dump() + ",";
  writes.push_back(std::move(write));
}

void WriteCompiler::compile(const Delete& effect, std::size_t index, std::vector<Write>& writes) {
  require_columns(effect.where, index, "Delete", "where");
  key_of('D', effect.table);
  key_add(effect.where, true);
  const auto check = [&] { table_with(effect.table, {&effect.where}, index, "Delete", "where"); };
  Write write;
  write.effect = index;
  write.shape =
      shape(effect.table, "Delete from", check, [&](const Table& table, WriteShape& made) {
        made.statement.text =
            "DELETE FROM " + table.quoted +
            " AS t USING (SELECT pg_catalog.jsonb_populate_record(NULL::" + table.quoted +
            ", x.value) AS w FROM pg_catalog.jsonb_array_elements($1::jsonb) AS x(value)"
            " OFFSET 0) v WHERE " +
            conditions(effect.where, "v.w");
      });
  write.rows = serialize(effect.where, index, "Delete", "where");
  writes.push_back(std::move(write));
}

void WriteCompiler::compile(const ScheduleEvent& effect, std::size_t index,
                            const EffectOrigin& origin, std::vector<Write>& writes) {
  constexpr const char* kind = "ScheduleEvent";
  if (effect.event_type.empty()) throw EffectError(index, kind, "event_type", "is empty");
  if (effect.stream && effect.stream->empty())
    throw EffectError(index, kind, "stream", "is empty; leave it out for no order");
  if ((effect.delay_seconds ? 1 : 0) + (effect.delay_minutes ? 1 : 0) +
          (effect.execute_at ? 1 : 0) >
      1)
    throw EffectError(index, kind, "", "give one of delay_seconds, delay_minutes and execute_at");
  json row{{"type", effect.event_type},
           {"payload", effect.payload},
           {"correlation_id", origin.correlation_id},
           {"causation_id", origin.event_id}};
  const auto delay = [&](const char* field, const std::optional<double>& value, double factor) {
    if (!value) return;
    if (!(*value >= 0 && *value * factor <= 1e10))
      throw EffectError(index, kind, field, "must be between 0 and about 300 years");
    row["delay"] = *value * factor;
  };
  delay("delay_seconds", effect.delay_seconds, 1);
  delay("delay_minutes", effect.delay_minutes, 60);
  if (effect.execute_at) row["at"] = *effect.execute_at;
  if (effect.stream) row["stream"] = *effect.stream;
  if (effect.idempotency_key) row["idempotency_key"] = *effect.idempotency_key;
  writes.push_back({schedule_, serialize(row, index, kind, "payload"), index, {}});
}

void WriteCompiler::compile(const TriggerWebhook& effect, std::size_t index,
                            const EffectOrigin& origin, std::vector<Write>& writes) {
  constexpr const char* kind = "TriggerWebhook";
  WebhookUrl url;
  std::string problem;
  if (!parse_webhook_url(effect.url, url, problem)) throw EffectError(index, kind, "url", problem);
  problem = problem_of_webhook_headers(effect.headers);
  if (!problem.empty()) throw EffectError(index, kind, "headers", problem);
  if (effect.name.size() > max_name_bytes || !is_utf8(effect.name))
    throw EffectError(index, kind, "name", "must be at most 255 bytes of UTF-8");
  const json row{{"event_id", origin.event_id},
                 {"correlation_id", origin.correlation_id},
                 {"name", effect.name},
                 {"url", effect.url},
                 {"host", url.host},
                 {"payload", effect.payload},
                 {"headers", effect.headers}};
  writes.push_back({webhook_, serialize(row, index, kind, "payload"), index, {}});
}

void WriteCompiler::compile(const KVSet& effect, std::size_t index, std::vector<Write>& writes) {
  if (effect.key.empty() || effect.key.size() > max_key_bytes)
    throw EffectError(index, "KVSet", "key", "must have 1 to 1024 bytes");
  json row{{"key", effect.key}, {"value", effect.value}};
  if (effect.ttl_seconds) {
    if (!(*effect.ttl_seconds > 0 && *effect.ttl_seconds <= 1e10))
      throw EffectError(index, "KVSet", "ttl_seconds",
                        "must be more than 0 and at most about 300 years");
    row["ttl"] = *effect.ttl_seconds;
  }
  writes.push_back({kv_, serialize(row, index, "KVSet", "value"), index, effect.key});
}

void WriteCompiler::compile(const KVDelete& effect, std::size_t index, std::vector<Write>& writes) {
  if (effect.key.empty() || effect.key.size() > max_key_bytes)
    throw EffectError(index, "KVDelete", "key", "must have 1 to 1024 bytes");
  writes.push_back({kv_, serialize({{"key", effect.key}, {"gone", true}}, index, "KVDelete", "key"),
                    index, effect.key});
}

void WriteCompiler::forget_schema() {
  catalog_.clear();
  for (const auto& entry : shapes_) session_.forget(entry.second->statement);
  shapes_.clear();
}

}  // namespace spillway
