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

namespace spillway {
namespace {

using Repeat = WriteShape::Repeat;

// Column sets come from payloads, so the number of statement shapes has no natural bound.
constexpr std::size_t max_shapes = 256;

// A session may see more than one compiler in its life, and a name means one text.
std::string new_name() {
  static std::atomic<std::uint64_t> number{0};
  return "sw_write_" + std::to_string(++number);
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
    : session_(session), as_json_(as_json), catalog_(session) {}

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
  made->statement.name = new_name();
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

void WriteCompiler::forget_schema() {
  catalog_.clear();
  for (const auto& entry : shapes_) session_.forget(entry.second->statement);
  shapes_.clear();
}

}  // namespace spillway
