// Grouping: the table writes of many events become few statements, with the same rows as one by
// one.
//
// Writes of one shape (kind, table, columns) are joined into one statement. A write may join an
// earlier group of its shape only if nothing that stands between minds: writes on one table, or on
// tables tied by foreign keys, never change places (a child must not find a parent that comes
// later), and nothing moves past a table whose triggers may do anything. Pure; no I/O.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "effects/sql.hpp"
#include "effects/table_catalog.hpp"

namespace spillway {

// One form of statement. Its only parameter is a JSON array of objects, one per row; or, for plain
// rows, there is an array of text for each column (plain_rows.hpp).
struct WriteShape {
  std::shared_ptr<const Table> table;
  Statement statement;
  std::size_t plain_columns = 0;      // 0: JSON
  std::string label;                  // for errors: "Insert into items"
  std::vector<std::string> identity;  // for updates that are `apart`: the columns that name the row

  // What becomes of writes that may touch the same row, told by their key.
  enum class Repeat {
    together,  // any number in one statement: inserts, deletes
    apart,     // a statement may touch a row once: the second starts another
    last,      // only the last one counts
    alone,     // it is not known which rows a write touches: a statement each
  } repeat = Repeat::together;
};

// What one effect writes.
struct Write {
  std::shared_ptr<const WriteShape> shape;
  std::string rows;        // one, unless `together`: see append_rows()
  std::size_t effect = 0;  // index in the event's list
  std::string key;         // for `apart` and `last`
};

struct WriteGroup {
  std::shared_ptr<const WriteShape> shape;
  std::string rows;  // as of a write
};

// JSON objects are joined by commas, plain rows stand one behind the other.
void append_rows(const WriteShape& shape, std::string& rows, std::string_view more);

// Sends the statement for these rows.
void send_rows(SqlSession& session, const WriteShape& shape, std::string_view rows,
               SqlSession::Answer answer = {});

// Takes writes in order, gives statements in order.
class WriteGrouping {
 public:
  void add(const Write& write);

  // The statements; the grouping is used up.
  [[nodiscard]] std::vector<WriteGroup> take();

 private:
  struct Open {
    std::shared_ptr<const WriteShape> shape;
    std::string rows;                                    // all but `last`
    std::unordered_map<std::string, std::string> keyed;  // `last`: row by key; `apart`: keys
  };
  [[nodiscard]] static bool join(Open& group, const Write& write);

  std::vector<Open> groups_;
};

}  // namespace spillway
