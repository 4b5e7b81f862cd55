#include "effects/executor.hpp"

#include <utility>

#include "effects/effect_error.hpp"
#include "effects/names.hpp"

namespace spillway {
namespace {

// Column sets come from payloads, so the number of statement shapes has no natural bound.
constexpr std::size_t max_shapes = 256;

// Serialized JSON; what is not valid UTF-8 is the handler's mistake.
std::string dump(const json& value, std::size_t index, const char* kind, const char* field) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    throw EffectError(index, kind, field, "contains text that is not valid UTF-8");
  }
}

PendingBroadcast compile_broadcast(const SSEBroadcast& broadcast, std::size_t index) {
  if (auto problem = problem_of_channel(broadcast.channel); !problem.empty())
    throw EffectError(index, "SSEBroadcast", "channel", problem);
  if (auto problem = problem_of_event_type(broadcast.event_type); !problem.empty())
    throw EffectError(index, "SSEBroadcast", "event_type", problem);
  PendingBroadcast pending;
  pending.channel = broadcast.channel;
  pending.event_type = broadcast.event_type;
  pending.data_json = dump(broadcast.data, index, "SSEBroadcast", "data");
  pending.is_text = broadcast.data.is_string();
  if (pending.is_text) pending.text = broadcast.data.get_ref<const std::string&>();
  pending.ephemeral = broadcast.ephemeral;
  return pending;
}

std::string column_names(const std::set<std::string, std::less<>>& columns) {
  std::string names;
  for (const auto& column : columns) names.append(names.empty() ? "" : ", ").append(column);
  return names;
}

}  // namespace

CompiledEffects Executor::compile(const Effects& effects) {
  CompiledEffects compiled;
  for (std::size_t index = 0; index < effects.size(); ++index) {
    if (const auto* insert = std::get_if<Insert>(&effects[index]))
      compile_insert(*insert, index, compiled);
    else if (const auto* broadcast = std::get_if<SSEBroadcast>(&effects[index]))
      compiled.broadcasts.push_back(compile_broadcast(*broadcast, index));
  }
  return compiled;
}

void Executor::compile_insert(const Insert& insert, std::size_t index, CompiledEffects& compiled) {
  const bool list = insert.data.is_array();
  if (!list && !insert.data.is_object())
    throw EffectError(
        index, "Insert", "data",
        std::string("must be an object of columns or an array of such objects, not ") +
            insert.data.type_name());
  const auto add = [&](const json& row) {
    auto shape = insert_shape(insert, row, index);
    std::string text = dump(row, index, "Insert", "data");
    // Rows of one effect that have the same columns travel together.
    if (!compiled.writes.empty() && compiled.writes.back().shape == shape &&
        compiled.writes.back().effect == index) {
      compiled.writes.back().rows.append(",").append(text);
      return;
    }
    compiled.writes.push_back({std::move(shape), std::move(text), index});
  };
  if (!list) return add(insert.data);
  for (std::size_t row = 0; row < insert.data.size(); ++row) {
    if (!insert.data[row].is_object())
      throw EffectError(
          index, "Insert", "data[" + std::to_string(row) + "]",
          std::string("must be an object of columns, not ") + insert.data[row].type_name());
    add(insert.data[row]);
  }
}

std::shared_ptr<const WriteShape> Executor::insert_shape(const Insert& insert, const json& row,
                                                         std::size_t index) {
  key_.assign(insert.on_conflict == OnConflict::ignore ? "i" : "e").append(insert.table);
  for (const auto& [column, value] : row.items()) key_.append(1, '\0').append(column);
  if (const auto known = shapes_.find(key_); known != shapes_.end()) return known->second;

  std::shared_ptr<const Table> table;
  try {
    table = catalog_.find(insert.table);
  } catch (const std::invalid_argument& problem) {
    throw EffectError(index, "Insert", "table", "\"" + insert.table + "\" " + problem.what());
  }
  if (table == nullptr)
    throw EffectError(index, "Insert", "table", "there is no table \"" + insert.table + "\"");

  std::string columns;
  for (const auto& [column, value] : row.items()) {
    if (!table->columns.contains(column)) {
      // It may have been added since the table was looked up.
      catalog_.clear();
      table = catalog_.find(insert.table);
      if (table == nullptr || !table->columns.contains(column))
        throw EffectError(index, "Insert", "data",
                          "table \"" + insert.table + "\" has no column \"" + column +
                              "\"; it has " +
                              (table ? column_names(table->columns) : std::string("gone")));
    }
    columns.append(columns.empty() ? "" : ", ").append(quote_identifier(column));
  }

  // One parameter whatever the columns; PostgreSQL converts every type. A row that names no column
  // is all defaults.
  auto shape = std::make_shared<WriteShape>();
  shape->table = table;
  std::string& sql = shape->statement.text;
  sql = "INSERT INTO " + table->quoted;
  if (columns.empty())
    sql += " SELECT FROM pg_catalog.jsonb_array_elements($1::jsonb)";
  else
    sql += " (" + columns + ") SELECT " + columns +
           " FROM pg_catalog.jsonb_populate_recordset(NULL::" + table->quoted + ", $1::jsonb)";
  if (insert.on_conflict == OnConflict::ignore) sql += " ON CONFLICT DO NOTHING";

  if (shapes_.size() >= max_shapes) {
    for (const auto& entry : shapes_) session_.forget(entry.second->statement);
    shapes_.clear();
  }
  shape->statement.name = "sw_write_" + std::to_string(++shape_number_);
  shapes_.emplace(key_, shape);
  return shape;
}

void Executor::apply(std::span<const CompiledEffects* const> events) {
  WriteGrouping grouping;
  for (const CompiledEffects* event : events)
    for (const Write& write : event->writes) grouping.add(write);
  for (const WriteGroup& group : grouping.take())
    session_.run(group.shape->statement, {group.rows.c_str()});
}

void Executor::apply_each(const CompiledEffects& event) {
  for (const Write& write : event.writes) {
    try {
      session_.run(write.shape->statement, {("[" + write.rows + "]").c_str()});
    } catch (const SqlError& error) {
      throw SqlError(error.sqlstate(), "effect " + std::to_string(write.effect) + " (Insert into " +
                                           write.shape->table->name + "): " + error.what());
    }
  }
}

void Executor::forget_schema() {
  catalog_.clear();
  for (const auto& entry : shapes_) session_.forget(entry.second->statement);
  shapes_.clear();
}

}  // namespace spillway
