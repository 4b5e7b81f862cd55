// The SQL of webhooks: claiming those that are due, and writing down how an attempt ended. Each
// call is one statement and so its own short transaction. One session, one thread. Errors:
// SqlError, ConnectionLost.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "effects/sql.hpp"
#include "processor/webhook_decision.hpp"

namespace spillway {

struct ClaimedWebhook {
  std::string id;  // uuid; the Idempotency-Key
  std::string name;
  std::string url;
  std::string host;
  std::string payload;  // JSON
  std::vector<std::pair<std::string, std::string>> headers;
  std::int64_t event_id = 0;  // whose handler asked for it
  std::string correlation_id;
  int attempts = 0;  // the one that now begins among them
};

class WebhookStore {
 public:
  explicit WebhookStore(SqlSession& session) : session_(session) {}

  // At most `most` that are due, of hosts behind `after` in their order, oldest first within a host
  // and no more of a host than `per_host` less its `in_flight`. They are the caller's for `lease`,
  // then due again.
  [[nodiscard]] std::vector<ClaimedWebhook> claim(
      std::size_t most, std::size_t per_host, const std::map<std::string, std::size_t>& in_flight,
      std::string_view after, std::chrono::milliseconds lease);

  // Writes down what an attempt came to; one that was the last is followed by a WebhookSuccess or
  // WebhookFailure event in the same transaction. False when the webhook is not the caller's any
  // more: the lease ran out and somebody else has it.
  bool settle(const ClaimedWebhook& webhook, const WebhookAnswer& answer,
              const WebhookDecision& decision);

 private:
  SqlSession& session_;
};

}  // namespace spillway
