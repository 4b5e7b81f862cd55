// Grouping: the table writes of many events become few statements, with the same rows as one by
// one.
//
// Writes of one shape (kind, table, columns, conflict rule) are joined into one statement. A write
// may join an earlier group of its shape only if nothing that stands between minds: writes on one
// table never change places, tables tied by a foreign key keep their order (a child must not find a
// parent that comes later), and nothing moves past a table with users' triggers. Pure; no I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "effects/sql.hpp"
#include "effects/table_catalog.hpp"

namespace spillway {

// One form of statement. Its only parameter is a JSON array of row objects.
struct WriteShape {
  std::shared_ptr<const Table> table;
  Statement statement;
};

// What one effect writes: JSON objects, joined by commas.
struct Write {
  std::shared_ptr<const WriteShape> shape;
  std::string rows;
  std::size_t effect = 0;  // index in the event's list
};

struct WriteGroup {
  std::shared_ptr<const WriteShape> shape;
  std::string rows;  // a JSON array
};

// Takes writes in order, gives statements in order.
class WriteGrouping {
 public:
  void add(const Write& write);

  // Closes the arrays; the grouping is used up.
  [[nodiscard]] std::vector<WriteGroup> take();

 private:
  std::vector<WriteGroup> groups_;
};

}  // namespace spillway
