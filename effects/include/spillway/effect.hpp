// Effects: what a handler wants done, as plain comparable values. Nothing here does anything; the
// worker carries the list out in the transaction that completes the event.
//
// Shapes, defaults and semantics are those of docs/effects.md. No thread-safety of their own.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace spillway {

using json = nlohmann::json;

enum class OnConflict { error, ignore };

// Rows into a table. `data` is an object (one row) or an array of objects; keys are columns,
// columns that are not named get their default. `table` is `name` or `schema.name`, taken as
// written (no case folding); `spillway.*` and system schemas are refused.
struct Insert {
  std::string table;
  json data;
  OnConflict on_conflict = OnConflict::error;

  bool operator==(const Insert&) const = default;
};

// Inserts, or where a row with the same `key` columns is there, sets the other columns of `data`.
// The key needs a unique index.
struct Upsert {
  std::string table;
  json data;  // an object or an array of objects
  std::vector<std::string> key;

  bool operator==(const Upsert&) const = default;
};

// Sets columns in every row whose columns equal all of `where` (null: is null).
struct Update {
  std::string table;
  json set;    // an object, not empty
  json where;  // an object, not empty

  bool operator==(const Update&) const = default;
};

struct Delete {
  std::string table;
  json where;  // an object, not empty

  bool operator==(const Delete&) const = default;
};

// A frame to everybody who listens on `channel`. A string in `data` travels as its text (each line
// one `data:` line), anything else as compact JSON. Ephemeral: live only, never replayed.
struct SSEBroadcast {
  std::string channel;     // 1 to 255 bytes, no control characters, no pattern such as A:*
  std::string event_type;  // the frame's `event:`; empty for none
  json data;
  bool ephemeral = false;

  bool operator==(const SSEBroadcast&) const = default;
};

// A new event, in the same transaction, with the correlation id of the event being handled and its
// id as causation. Due after a delay or at a time (ISO 8601), one of them at most; else at once.
// With an idempotency key that was used before it does nothing.
struct ScheduleEvent {
  std::string event_type;
  json payload = json::object();
  std::optional<double> delay_seconds = std::nullopt;
  std::optional<double> delay_minutes = std::nullopt;
  std::optional<std::string> execute_at = std::nullopt;
  std::optional<std::string> stream = std::nullopt;
  std::optional<std::string> idempotency_key = std::nullopt;

  bool operator==(const ScheduleEvent&) const = default;
};

// A POST of `payload` as JSON to `url`, after the commit, at least once: the header Idempotency-Key
// is the same at every attempt. A WebhookSuccess or WebhookFailure event says how it ended.
struct TriggerWebhook {
  std::string url;  // http or https, at most 2048 bytes
  json payload = json::object();
  std::map<std::string, std::string> headers = {};  // besides those of the connection; at most 32
  std::string name = {};                            // for the handler of the event that follows

  bool operator==(const TriggerWebhook&) const = default;
};

// A key in spillway.kv; with `ttl_seconds` it is gone after that time. The last one on a key wins.
struct KVSet {
  std::string key;
  json value;
  std::optional<double> ttl_seconds = std::nullopt;

  bool operator==(const KVSet&) const = default;
};

struct KVDelete {
  std::string key;

  bool operator==(const KVDelete&) const = default;
};

// A line in the worker's log, written after the commit.
struct Log {
  std::string level;  // trace, debug, info, warning, error or critical
  std::string message;
  json fields = json::object();

  bool operator==(const Log&) const = default;
};

using Effect = std::variant<Insert, Upsert, Update, Delete, SSEBroadcast, ScheduleEvent,
                            TriggerWebhook, KVSet, KVDelete, Log>;
using Effects = std::vector<Effect>;

}  // namespace spillway
