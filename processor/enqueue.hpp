// Enqueueing from outside SQL: `POST /events` and `spillway enqueue`. Checks the JSON form of
// events and inserts them in one statement, which is one transaction. Pure but for insert_events().
// Errors: BadEvent says what to write instead.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "effects/sql.hpp"

namespace spillway {

class BadEvent : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An object with `type` and any of the columns of spillway.events that users give; or an array of
// such objects. Throws BadEvent, naming the element and the field.
void check_events(const nlohmann::json& events);

// Ids in the order given. SqlError for what only the database can see (a used idempotency key).
[[nodiscard]] std::vector<std::int64_t> insert_events(SqlSession& session,
                                                      const nlohmann::json& events);

}  // namespace spillway
