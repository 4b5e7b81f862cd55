#include "processor/retry_policy.hpp"

#include <algorithm>
#include <string>

#include "processor/pg_connection.hpp"

namespace spillway {

FailureClass classify(std::string_view sqlstate) {
  if (is_outage(std::string(sqlstate))) return FailureClass::outage;
  if (sqlstate == "40001" || sqlstate == "40P01") return FailureClass::batch;
  if (sqlstate == lock_not_available || sqlstate == query_canceled) return FailureClass::timeout;
  if (sqlstate.starts_with("22") || sqlstate.starts_with("42")) return FailureClass::deterministic;
  return FailureClass::retryable;
}

std::chrono::milliseconds RetryPolicy::delay(int attempts, double random) const {
  double whole = static_cast<double>(base.count());
  const auto cap = static_cast<double>(std::max(longest, base).count());
  for (int i = 1; i < attempts && whole < cap; ++i) whole *= 2;
  whole = std::min(whole, cap);
  return std::chrono::milliseconds(static_cast<long long>(whole * (0.5 + random / 2)));
}

}  // namespace spillway
