// The SQL of replays: beginning one, reading the log for it, writing down how far it is.
//
// A replay takes the events of its range that were done when it began; the others are noted in
// spillway.replay_left at that moment and left to live work, so that each event of the range is
// handled by exactly one of the two, whenever live work comes to it.
// One session, one thread. Errors: SqlError, ConnectionLost; ReplayError, with a text for users;
// std::invalid_argument where what the user wrote cannot be meant.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "effects/sql.hpp"
#include "processor/event_rows.hpp"
#include "processor/replay_request.hpp"

namespace spillway {

class ReplayError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A row of spillway.replays.
struct ReplayState {
  struct Failure {
    std::int64_t event_id = 0;
    std::string error;
  };
  static constexpr std::size_t failures_kept = 10;

  std::int64_t id = 0;
  std::string name;
  ReplayRequest request;
  std::int64_t first = 0;  // the range; empty when last < first
  std::int64_t last = 0;
  std::int64_t next = 0;  // everything below it is replayed
  std::int64_t events = 0;
  std::int64_t failed = 0;
  EffectCounts asked{};           // what the handlers asked for, wanted or not
  std::vector<Failure> failures;  // the first ones, `failures_kept` at most
  std::string run_by;
  std::string started_at;
  std::string updated_at;
  std::optional<std::string> finished_at;
  std::string last_error;
  bool running = false;  // some process has it in hand
};

class ReplayStore {
 public:
  explicit ReplayStore(SqlSession& session) : session_(session) {}

  // A time as PostgreSQL understands it, made absolute ("yesterday" is another day tomorrow).
  // Throws std::invalid_argument.
  [[nodiscard]] std::string absolute_time(const std::string& text);

  // Begins a replay, in a transaction of its own; "" names it after its number. It waits `patience`
  // at most for transactions that are inserting events. Throws std::invalid_argument when a table
  // of `truncate` is none, ReplayError when the name is taken or such a table is in use for long.
  [[nodiscard]] ReplayState begin(const std::string& name, const ReplayRequest& request,
                                  std::chrono::milliseconds patience = std::chrono::seconds(2));

  [[nodiscard]] std::optional<ReplayState> find(const std::string& name);
  [[nodiscard]] ReplayState read(std::int64_t id);
  [[nodiscard]] std::vector<ReplayState> list();  // oldest first

  // Notes who runs it now.
  void take(std::int64_t id, const std::string& run_by);

  // Inside the caller's transaction, to its end: nobody else moves this replay. Throws ReplayError
  // when somebody has moved it since `state` was read.
  void lock(const ReplayState& state);

  struct Page {
    std::vector<ClaimedEvent> events;  // in id order
    std::int64_t next = 0;             // where the page behind this one begins
  };
  // At most `limit` events and about `bytes` of payload (at least one event, where there is one).
  // Looks at a bounded number of rows of the log, so a page may be empty although more follow.
  [[nodiscard]] Page read_log(const ReplayState& state, std::size_t limit, std::size_t bytes);

  // Progress; the end, once next is beyond the range.
  void save(const ReplayState& state);

 private:
  std::int64_t settled(std::int64_t from, std::chrono::milliseconds patience);
  std::string lock_tables(const std::vector<std::string>& tables);

  SqlSession& session_;
};

}  // namespace spillway
