// Declared reads: what handlers need from the database, as one SELECT per handler, run once for
// many events. The events travel as one parameter; each event's rows come back as a JSON array.
//
// One session, one thread. Errors: SqlError (some event's read failed, or the SELECT is wrong),
// ConnectionLost.
#pragma once

#include <cstddef>
#include <string>
#include <unordered_map>
#include <vector>

#include "effects/sql.hpp"
#include "spillway/event.hpp"

namespace spillway {

class DeclaredReads {
 public:
  explicit DeclaredReads(SqlSession& session) : session_(session) {}

  // Throws SqlError unless the text prepares as one SELECT that may use `event`.
  void check(const std::string& select);

  // The rows for each of the events, in their order.
  [[nodiscard]] std::vector<json> read(const std::string& select,
                                       const std::vector<const Event*>& events);

 private:
  const Statement& statement(const std::string& select);

  SqlSession& session_;
  std::unordered_map<std::string, Statement> statements_;  // as many as handlers declare
};

}  // namespace spillway
