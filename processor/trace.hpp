// What came of a correlation id: its events, each with its status, its broadcasts and its webhooks,
// as the tree that causation makes of them.
//
// One session, one thread. Reads the log by correlation id, which has no index: a tool for people,
// not for a hot path. Errors: SqlError (22P02 when the id is no uuid), ConnectionLost.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "effects/sql.hpp"

namespace spillway {

struct TracedWebhook {
  std::string name;
  std::string host;
  std::string status;
  int attempts = 0;
  std::optional<int> last_status;
  std::string last_error;
  std::optional<double> finished_ms;  // after the event was inserted
};

struct TracedEvent {
  std::int64_t id = 0;
  std::string type;
  std::string stream;
  std::optional<std::int64_t> causation_id;
  std::string created_at;
  std::string status;  // as in spillway.event_status
  std::string next_attempt_at;
  std::string last_error;
  std::int64_t broadcasts = 0;
  std::int64_t first_position = 0;
  std::int64_t last_position = 0;
  std::optional<double> broadcast_ms;  // its last broadcast, after the event was inserted
  std::vector<TracedWebhook> webhooks;
  std::map<std::string, int> effects;  // by kind; filled by whoever has the handlers
  std::string effects_note;            // why there are none to tell
};

// In id order; empty when the id is not known.
[[nodiscard]] std::vector<TracedEvent> read_trace(SqlSession& session,
                                                  const std::string& correlation_id);

// The tree in lines for people, and the list as JSON.
[[nodiscard]] std::string to_text(const std::vector<TracedEvent>& events);
[[nodiscard]] nlohmann::json to_json(const std::vector<TracedEvent>& events);

}  // namespace spillway
