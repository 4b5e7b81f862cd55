#include "effects/own_writes.hpp"

#include <optional>
#include <utility>

#include "effects/effect_error.hpp"
#include "effects/names.hpp"
#include "effects/serialize.hpp"
#include "effects/webhook_headers.hpp"
#include "effects/webhook_url.hpp"

namespace spillway {
namespace {

using Repeat = WriteShape::Repeat;

constexpr std::size_t max_key_bytes = 1024;  // of a KV key; an index entry has its limits
constexpr std::size_t max_name_bytes = 255;  // of a webhook

// Ours; users' tables have larger oids, so neither is ever taken for one of them.
constexpr std::uint32_t events_oid = 1;
constexpr std::uint32_t kv_oid = 2;
constexpr std::uint32_t webhooks_oid = 3;

constexpr const char* schedule_sql = R"(
INSERT INTO spillway.events (type, payload, stream, idempotency_key, execute_at, correlation_id,
                             causation_id)
SELECT e.type, coalesce(e.payload, 'null'), e.stream, e.idempotency_key,
       coalesce(e.at, now() + e.delay * interval '1 second', now()), e.correlation_id, e.causation_id
FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS item(value, number)
CROSS JOIN LATERAL jsonb_to_record(item.value) AS e(
  type text, payload jsonb, stream text, idempotency_key text, at timestamptz, delay float8,
  correlation_id uuid, causation_id bigint)
ORDER BY item.number
ON CONFLICT (idempotency_key) DO NOTHING)";

constexpr const char* webhook_sql = R"(
INSERT INTO spillway.webhooks (event_id, correlation_id, name, url, host, payload, headers)
SELECT event_id, correlation_id, name, url, host, coalesce(payload, 'null'), headers
FROM jsonb_to_recordset($1::jsonb) AS w(
  event_id bigint, correlation_id uuid, name text, url text, host text, payload jsonb,
  headers jsonb))";

constexpr const char* kv_sql = R"(
WITH item AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(key text, value jsonb, ttl float8, gone bool)
), removed AS (
  DELETE FROM spillway.kv USING item WHERE kv.key = item.key AND item.gone
)
INSERT INTO spillway.kv (key, value, expires_at)
SELECT key, coalesce(value, 'null'), clock_timestamp() + ttl * interval '1 second'
FROM item WHERE gone IS NOT TRUE
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at)";

std::shared_ptr<const WriteShape> own_shape(std::uint32_t oid, const char* name, const char* sql,
                                            const char* label, Repeat repeat) {
  auto table = std::make_shared<Table>();
  table->oid = oid;
  table->family = {oid};
  auto shape = std::make_shared<WriteShape>();
  shape->table = std::move(table);
  shape->statement = {name, sql};
  shape->label = label;
  shape->repeat = repeat;
  return shape;
}

}  // namespace

OwnWrites::OwnWrites()
    : schedule_(
          own_shape(events_oid, "sw_schedule", schedule_sql, "ScheduleEvent", Repeat::together)),
      webhook_(
          own_shape(webhooks_oid, "sw_webhook", webhook_sql, "TriggerWebhook", Repeat::together)),
      kv_(own_shape(kv_oid, "sw_kv", kv_sql, "KVSet", Repeat::last)) {}

void OwnWrites::compile(const ScheduleEvent& effect, std::size_t index, const EffectOrigin& origin,
                        std::vector<Write>& writes) const {
  constexpr const char* kind = "ScheduleEvent";
  if (effect.event_type.empty()) throw EffectError(index, kind, "event_type", "is empty");
  if (effect.stream && effect.stream->empty())
    throw EffectError(index, kind, "stream", "is empty; leave it out for no order");
  if ((effect.delay_seconds ? 1 : 0) + (effect.delay_minutes ? 1 : 0) +
          (effect.execute_at ? 1 : 0) >
      1)
    throw EffectError(index, kind, "", "give one of delay_seconds, delay_minutes and execute_at");
  json row{{"type", effect.event_type},
           {"payload", effect.payload},
           {"correlation_id", origin.correlation_id},
           {"causation_id", origin.event_id}};
  const auto delay = [&](const char* field, const std::optional<double>& value, double factor) {
    if (!value) return;
    if (!(*value >= 0 && *value * factor <= 1e10))
      throw EffectError(index, kind, field, "must be between 0 and about 300 years");
    row["delay"] = *value * factor;
  };
  delay("delay_seconds", effect.delay_seconds, 1);
  delay("delay_minutes", effect.delay_minutes, 60);
  if (effect.execute_at) row["at"] = *effect.execute_at;
  if (effect.stream) row["stream"] = *effect.stream;
  if (effect.idempotency_key) row["idempotency_key"] = *effect.idempotency_key;
  writes.push_back({schedule_, serialize(row, index, kind, "payload"), index, {}});
}

void OwnWrites::compile(const TriggerWebhook& effect, std::size_t index, const EffectOrigin& origin,
                        std::vector<Write>& writes) const {
  constexpr const char* kind = "TriggerWebhook";
  WebhookUrl url;
  std::string problem;
  if (!parse_webhook_url(effect.url, url, problem)) throw EffectError(index, kind, "url", problem);
  problem = problem_of_webhook_headers(effect.headers);
  if (!problem.empty()) throw EffectError(index, kind, "headers", problem);
  if (effect.name.size() > max_name_bytes || !is_utf8(effect.name))
    throw EffectError(index, kind, "name", "must be at most 255 bytes of UTF-8");
  const json row{{"event_id", origin.event_id},
                 {"correlation_id", origin.correlation_id},
                 {"name", effect.name},
                 {"url", effect.url},
                 {"host", url.host},
                 {"payload", effect.payload},
                 {"headers", effect.headers}};
  writes.push_back({webhook_, serialize(row, index, kind, "payload"), index, {}});
}

void OwnWrites::compile(const KVSet& effect, std::size_t index, std::vector<Write>& writes) const {
  if (effect.key.empty() || effect.key.size() > max_key_bytes)
    throw EffectError(index, "KVSet", "key", "must have 1 to 1024 bytes");
  json row{{"key", effect.key}, {"value", effect.value}};
  if (effect.ttl_seconds) {
    if (!(*effect.ttl_seconds > 0 && *effect.ttl_seconds <= 1e10))
      throw EffectError(index, "KVSet", "ttl_seconds",
                        "must be more than 0 and at most about 300 years");
    row["ttl"] = *effect.ttl_seconds;
  }
  writes.push_back({kv_, serialize(row, index, "KVSet", "value"), index, effect.key});
}

void OwnWrites::compile(const KVDelete& effect, std::size_t index,
                        std::vector<Write>& writes) const {
  if (effect.key.empty() || effect.key.size() > max_key_bytes)
    throw EffectError(index, "KVDelete", "key", "must have 1 to 1024 bytes");
  writes.push_back({kv_, serialize({{"key", effect.key}, {"gone", true}}, index, "KVDelete", "key"),
                    index, effect.key});
}

}  // namespace spillway
