// What the database says about the tables that effects write to: columns, and what ties tables to
// each other. Cached per session, because it is asked for every effect; clear() after a statement
// failed in a way that says the schema changed.
//
// One session, one thread. Tables that are not there are not remembered, so memory is bounded by
// the tables that exist.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "effects/sql.hpp"

namespace spillway {

struct Table {
  std::uint32_t oid = 0;
  std::string schema;
  std::string name;
  std::string quoted;  // "schema"."name"
  // Each column with its type's name as format_type gives it.
  std::map<std::string, std::string, std::less<>> columns;
  // Column sets of which no two rows share the values (unique, not null, checked at once).
  std::vector<std::vector<std::string>> keys;
  // Tables tied to it by foreign keys or partitioning, however far, itself included.
  std::set<std::uint32_t> family;
  // Users' triggers, rules, a view, a foreign table: writing to it may do anything anywhere.
  bool opaque = false;
};

class TableCatalog {
 public:
  explicit TableCatalog(SqlSession& session) : session_(session) {}

  // nullptr when there is no such table. Throws std::invalid_argument, with the problem as text,
  // when the name is not one or not a permitted target.
  std::shared_ptr<const Table> find(const std::string& name);

  void clear() { tables_.clear(); }

 private:
  SqlSession& session_;
  std::unordered_map<std::string, std::shared_ptr<const Table>> tables_;
};

}  // namespace spillway
