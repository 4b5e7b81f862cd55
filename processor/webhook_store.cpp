#include "processor/webhook_store.hpp"

#include <nlohmann/json.hpp>

namespace spillway {
namespace {

using nlohmann::json;

// From host to host by the index, so that neither a long line for one host nor what is not due yet
// is walked through; the LIMIT ends the walk. An array of ids, because a join may be planned as a
// scan of the whole table.
const Statement claim_sql{"sw_claim_webhooks", R"(
WITH RECURSIVE hosts(host) AS (
  (SELECT host FROM spillway.webhooks WHERE finished_at IS NULL AND host > $1 ORDER BY host LIMIT 1)
  UNION ALL
  SELECT (SELECT w.host FROM spillway.webhooks w
          WHERE w.finished_at IS NULL AND w.host > h.host ORDER BY w.host LIMIT 1)
  FROM hosts h WHERE h.host IS NOT NULL
), due AS MATERIALIZED (
  SELECT d.id
  FROM hosts h CROSS JOIN LATERAL (
    SELECT w.id FROM spillway.webhooks w
    WHERE w.finished_at IS NULL AND w.host = h.host AND w.next_attempt_at <= now()
    ORDER BY w.next_attempt_at
    LIMIT greatest(0, $2::bigint - coalesce((
      SELECT busy.used FROM unnest($3::text[], $4::bigint[]) AS busy(host, used)
      WHERE busy.host = h.host), 0))
    FOR UPDATE SKIP LOCKED) d
  WHERE h.host IS NOT NULL
  LIMIT $5::bigint
)
UPDATE spillway.webhooks w
SET status = 'sending', attempts = least(w.attempts + 1, 32767),
    next_attempt_at = clock_timestamp() + $6::bigint * interval '1 millisecond'
WHERE w.id = ANY (ARRAY(SELECT id FROM due))
RETURNING w.id, w.name, w.url, w.host, w.payload, w.headers, w.attempts, w.event_id,
          w.correlation_id)"};

const Statement settle_sql{"sw_settle_webhook", R"(
WITH settled AS (
  UPDATE spillway.webhooks
  SET status = $3, last_status = $4::int, last_error = $5,
      next_attempt_at = CASE WHEN $3 = 'failed'
                             THEN clock_timestamp() + $6::bigint * interval '1 millisecond'
                             ELSE next_attempt_at END,
      finished_at = CASE WHEN $3 <> 'failed' THEN clock_timestamp() END
  WHERE id = $1::uuid AND status = 'sending' AND attempts = $2::int
  RETURNING *
), told AS (
  INSERT INTO spillway.events (type, payload, correlation_id, causation_id)
  SELECT CASE status WHEN 'sent' THEN 'WebhookSuccess' ELSE 'WebhookFailure' END,
         jsonb_build_object('webhook_id', id, 'name', name, 'url', url, 'status', last_status,
                            'attempts', attempts)
           || jsonb_strip_nulls(jsonb_build_object('error', last_error, 'response', $7::text)),
         correlation_id, event_id
  FROM settled WHERE finished_at IS NOT NULL
)
SELECT count(*) FROM settled)"};

const char* status_of(WebhookDecision::Kind kind) {
  switch (kind) {
    case WebhookDecision::Kind::sent:
      return "sent";
    case WebhookDecision::Kind::again:
      return "failed";
    case WebhookDecision::Kind::dead:
      break;
  }
  return "dead";
}

}  // namespace

std::vector<ClaimedWebhook> WebhookStore::claim(std::size_t most, std::size_t per_host,
                                                const std::map<std::string, std::size_t>& in_flight,
                                                std::string_view after,
                                                std::chrono::milliseconds lease) {
  std::string hosts = "{", used = "{";
  for (const auto& [host, count] : in_flight) {
    append_array_element(hosts, host);
    append_array_element(used, static_cast<std::int64_t>(count));
  }
  const Rows rows = session_.run(
      claim_sql,
      {std::string(after).c_str(), std::to_string(per_host).c_str(), (hosts += '}').c_str(),
       (used += '}').c_str(), std::to_string(most).c_str(), std::to_string(lease.count()).c_str()});
  std::vector<ClaimedWebhook> claimed;
  claimed.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    ClaimedWebhook& webhook = claimed.emplace_back();
    webhook.id = rows.string(row, 0);
    if (!rows.is_null(row, 7)) webhook.event_id = rows.integer(row, 7);
    webhook.correlation_id = rows.string(row, 8);
    webhook.name = rows.string(row, 1);
    webhook.url = rows.string(row, 2);
    webhook.host = rows.string(row, 3);
    webhook.payload = rows.string(row, 4);
    const json headers = json::parse(rows.text(row, 5));
    for (const auto& [name, value] : headers.items())
      webhook.headers.emplace_back(name, value.get<std::string>());
    webhook.attempts = rows.integer<int>(row, 6);
  }
  return claimed;
}

bool WebhookStore::settle(const ClaimedWebhook& webhook, const WebhookAnswer& answer,
                          const WebhookDecision& decision) {
  const std::string status = std::to_string(answer.status);
  const Rows rows = session_.run(
      settle_sql, {webhook.id.c_str(), std::to_string(webhook.attempts).c_str(),
                   status_of(decision.kind), answer.status == 0 ? nullptr : status.c_str(),
                   decision.error.empty() ? nullptr : decision.error.c_str(),
                   std::to_string(decision.delay.count()).c_str(),
                   answer.status == 0 ? nullptr : answer.body.c_str()});
  return rows.integer(0, 0) == 1;
}

}  // namespace spillway
