// Dead letters: which there are, and what is done about them; for `spillway dead` and GET
// /api/dead. What retry and discard mean stands in migrations/0009_dead_letters.sql.
//
// One session, one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "effects/sql.hpp"

namespace spillway {

// Which of them; what is empty does not matter.
struct DeadFilter {
  std::vector<std::string> types;     // one of these
  std::string error;                  // stands somewhere in the error, in upper or lower case
  std::string sqlstate;               // "23505", a class "23", or "none"
  std::optional<std::string> stream;  // exactly
  std::string since, until;           // died in [since, until); as time_of() gives them

  [[nodiscard]] bool empty() const;
};

struct DeadLetter {
  std::int64_t event_id = 0;
  std::string type;
  std::optional<std::string> stream;
  int attempts = 0;
  std::string failed_at;  // ISO 8601, UTC
  std::optional<std::string> sqlstate;
  std::string error;
  bool holds_stream = false;  // the later events of its stream wait for it
};
[[nodiscard]] nlohmann::json to_json(const DeadLetter& letter);

// The newest first, at most `limit`.
[[nodiscard]] std::vector<DeadLetter> read_dead(SqlSession& session, const DeadFilter& filter,
                                                std::size_t limit);
[[nodiscard]] std::int64_t count_dead(SqlSession& session, const DeadFilter& filter);

// Those of one type and one error, whatever numbers and uuids it names.
struct DeadGroup {
  std::int64_t count = 0;
  std::string type;
  std::string error;           // first line, numbers as N, without the event's id and type
  std::string last_failed_at;  // ISO 8601, UTC
  std::int64_t last_event_id = 0;
};
[[nodiscard]] nlohmann::json to_json(const DeadGroup& group);

// The largest first, at most `limit`.
[[nodiscard]] std::vector<DeadGroup> group_dead(SqlSession& session, const DeadFilter& filter,
                                                std::size_t limit);

// All there is to know about one. Texts are as PostgreSQL writes them: a payload may hold numbers
// that no double takes.
struct DeadEvent {
  DeadLetter letter;
  std::string payload, context;  // jsonb_pretty
  std::string correlation_id;
  std::optional<std::int64_t> causation_id;
  std::optional<int> stream_version;
  std::optional<std::string> idempotency_key;
  std::optional<int> max_attempts;
  int priority = 0;
  std::string created_at, execute_at;
  std::int64_t held = 0;  // events of its stream that wait for it
  std::string json;       // the whole, one line
};
[[nodiscard]] std::optional<DeadEvent> find_dead(SqlSession& session, std::int64_t event_id);

// What event_status says; empty when there is no such event.
[[nodiscard]] std::string status_of(SqlSession& session, std::int64_t event_id);

// A time for DeadFilter: anything PostgreSQL reads as one, or a duration ("90s", "2h", "7d") for
// that long ago. Throws std::invalid_argument, saying what to write.
[[nodiscard]] std::string time_of(SqlSession& session, const std::string& text);

// Ids of dead letters behind `after`, ascending, at most `limit`.
[[nodiscard]] std::vector<std::int64_t> dead_ids(SqlSession& session, const DeadFilter& filter,
                                                 std::int64_t after, std::size_t limit);

enum class DeadAction { retry, discard };

// spillway.retry() or spillway.discard() for each, in one transaction. Returns those it refused.
[[nodiscard]] std::vector<std::int64_t> act_on_dead(SqlSession& session, DeadAction action,
                                                    std::span<const std::int64_t> event_ids);

}  // namespace spillway
