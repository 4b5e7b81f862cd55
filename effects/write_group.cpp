#include "effects/write_group.hpp"

#include <utility>

#include "effects/plain_rows.hpp"

namespace spillway {
namespace {

using Repeat = WriteShape::Repeat;

// May a write on `moving` be carried out before a group on `passed` that was asked for earlier?
bool may_pass(const Table& moving, const Table& passed) {
  return !moving.opaque && !passed.opaque && !moving.family.contains(passed.oid);
}

}  // namespace

void append_rows(const WriteShape& shape, std::string& rows, std::string_view more) {
  if (shape.plain_columns == 0 && !rows.empty()) rows += ',';
  rows += more;
}

void send_rows(SqlSession& session, const WriteShape& shape, std::string_view rows,
               SqlSession::Answer answer) {
  if (shape.plain_columns == 0) {
    std::string array;
    array.reserve(rows.size() + 2);
    array.append("[").append(rows).append("]");
    return session.send(shape.statement, {array.c_str()}, std::move(answer));
  }
  const std::vector<SqlArray> columns = columns_of(rows, shape.plain_columns);
  const std::vector<Parameter> parameters(columns.begin(), columns.end());
  session.send(shape.statement, parameters, std::move(answer));
}

bool WriteGrouping::join(Open& group, const Write& write) {
  switch (group.shape->repeat) {
    case Repeat::together:
      break;
    case Repeat::apart:
      if (!group.keyed.emplace(write.key, std::string()).second) return false;
      break;
    case Repeat::last:
      group.keyed.insert_or_assign(write.key, write.rows);
      return true;
    case Repeat::alone:
      return false;
  }
  append_rows(*group.shape, group.rows, write.rows);
  return true;
}

void WriteGrouping::add(const Write& write) {
  // Few groups in practice (tables x shapes), so the walk from the back is short; a batch whose
  // writes cannot be joined stops at its first step.
  for (std::size_t i = groups_.size(); i-- > 0;) {
    Open& group = groups_[i];
    if (group.shape == write.shape) {
      if (join(group, write)) return;
      break;
    }
    if (!may_pass(*write.shape->table, *group.shape->table)) break;
  }
  Open group{write.shape, {}, {}};
  if (write.shape->repeat == Repeat::last) {
    group.keyed.emplace(write.key, write.rows);
  } else {
    group.rows = write.rows;
    if (write.shape->repeat == Repeat::apart) group.keyed.emplace(write.key, std::string());
  }
  groups_.push_back(std::move(group));
}

std::vector<WriteGroup> WriteGrouping::take() {
  std::vector<WriteGroup> made;
  made.reserve(groups_.size());
  for (Open& group : groups_) {
    if (group.shape->repeat == Repeat::last) {
      for (const auto& [key, row] : group.keyed) append_rows(*group.shape, group.rows, row);
    }
    made.push_back({std::move(group.shape), std::move(group.rows)});
  }
  groups_.clear();
  return made;
}

}  // namespace spillway
