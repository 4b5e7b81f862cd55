#include "effects/write_group.hpp"

#include <utility>

namespace spillway {
namespace {

// May a write on `moving` be carried out before a group on `passed` that was asked for earlier?
bool may_pass(const Table& moving, const Table& passed) {
  return moving.oid != passed.oid && !moving.has_triggers && !passed.has_triggers &&
         !moving.parents.contains(passed.oid) && !passed.parents.contains(moving.oid);
}

}  // namespace

void WriteGrouping::add(const Write& write) {
  // Few groups in practice (tables x shapes), so the walk from the back is short; a batch whose
  // writes cannot be joined stops at its first step.
  for (std::size_t i = groups_.size(); i-- > 0;) {
    WriteGroup& group = groups_[i];
    if (group.shape == write.shape) {
      group.rows += ',';
      group.rows += write.rows;
      return;
    }
    if (!may_pass(*write.shape->table, *group.shape->table)) break;
  }
  WriteGroup group{write.shape, "["};
  group.rows += write.rows;
  groups_.push_back(std::move(group));
}

std::vector<WriteGroup> WriteGrouping::take() {
  for (WriteGroup& group : groups_) group.rows += ']';
  return std::exchange(groups_, {});
}

}  // namespace spillway
