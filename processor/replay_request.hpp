// What a replay is asked for: which events, and which of their effects. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "effects/effect_kinds.hpp"

namespace spillway {

// What a replay applies unless it is asked for more or other: what changes rows, not what tells the
// world about it or starts further work.
[[nodiscard]] EffectKinds default_replay_kinds();

struct ReplayRequest {
  std::int64_t from = 1;
  std::optional<std::int64_t> to;    // none: the last event when the replay begins
  std::vector<std::string> types;    // empty: all
  std::vector<std::string> streams;  // empty: all, and events without one
  std::optional<std::string> since;  // created_at, as PostgreSQL reads times; inclusive
  std::optional<std::string> until;  // exclusive
  EffectKinds kinds = default_replay_kinds();
  bool include_dead = false;
  bool dry_run = false;               // effects are checked and counted, not applied
  std::vector<std::string> truncate;  // tables that are emptied as the replay begins

  bool operator==(const ReplayRequest&) const = default;
};

// As spillway.replays keeps it.
[[nodiscard]] nlohmann::json to_json(const ReplayRequest& request);
[[nodiscard]] ReplayRequest replay_request_from_json(const nlohmann::json& value);

}  // namespace spillway
