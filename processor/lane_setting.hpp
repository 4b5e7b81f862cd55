// How many lanes a database has: 8, unless it was told otherwise. One session, one thread. Errors:
// SqlError, ConnectionLost.
#pragma once

#include <functional>
#include <string>

#include "effects/sql.hpp"

namespace spillway {

// Shares what is queued out over `lanes` lanes (1 to most_lanes) from now on; false when it is so
// already. Batches and inserts wait meanwhile; workers need not be told. `log` hears of attempts
// that gave way to others, and of processes that were found to have ended.
bool set_lanes(SqlSession& session, int lanes,
               const std::function<void(const std::string&)>& log = {});

}  // namespace spillway
