// A change of the schema beside which no batch may run: a transaction, one at a time of all
// processes, that gives way to writers and comes again. One session, one thread.
#pragma once

#include <functional>
#include <string>

#include "effects/sql.hpp"

namespace spillway {

// Runs `change` between BEGIN and COMMIT. When it waits too long for a lock, or two wait for each
// other, it is rolled back and done again a few times; `log`, which may be empty, hears of it by
// the name `what`. What it throws otherwise is passed on after a ROLLBACK.
void change_schema(SqlSession& session, const std::string& what,
                   const std::function<void(const std::string&)>& log,
                   const std::function<void()>& change);

// In such a change: waits for the batches in hand; no other begins until the transaction ends. What
// takes a lock after it waits no longer than writers may be kept waiting.
void own_every_lane(SqlSession& session);

}  // namespace spillway
