// What becomes of a webhook after an attempt: sent, tried again later, or given up. Pure: the clock
// and the randomness are the caller's.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "processor/retry_policy.hpp"

namespace spillway {

// How an attempt ended.
struct WebhookAnswer {
  int status = 0;                // of the answer; 0 when there was none
  std::string body = {};         // its beginning, valid UTF-8 without NUL
  std::string retry_after = {};  // that header, as sent
  std::string location = {};     // that header, of a redirect
  std::string error = {};        // why there was no answer
  bool refused = false;          // the address may not be reached, now or later
};

struct WebhookDecision {
  enum class Kind { sent, again, dead } kind = Kind::sent;
  std::chrono::milliseconds delay{0};  // of the next attempt
  std::string error;                   // "" when sent
};

// `attempts`: how many have been made, this one among them; `random` is in [0, 1).
[[nodiscard]] WebhookDecision decide(const WebhookAnswer& answer, int attempts,
                                     const RetryPolicy& policy, double random,
                                     std::chrono::system_clock::time_point now);

// Retry-After: seconds, or a date (RFC 9110, 10.2.3; the preferred form of dates only). An hour at
// most; nothing when it is neither.
[[nodiscard]] std::optional<std::chrono::milliseconds> retry_after(
    std::string_view text, std::chrono::system_clock::time_point now);

}  // namespace spillway
