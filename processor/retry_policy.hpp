// What becomes of an event whose handling failed. Pure and thread-safe; randomness is handed in.
#pragma once

#include <chrono>
#include <string_view>

namespace spillway {

enum class FailureClass {
  outage,         // the server is the trouble: wait it out, count nothing
  batch,          // serialization, deadlock: the same batch again
  timeout,        // of a lock or a statement: which event waits is to be found out, it goes later
  deterministic,  // no retry can mend it: SQLSTATE classes 22 (data) and 42 (names, types, rights)
  retryable,      // anything else: later, up to the attempts
};

inline constexpr std::string_view lock_not_available = "55P03";  // also lock_timeout
inline constexpr std::string_view query_canceled = "57014";      // also statement_timeout

[[nodiscard]] FailureClass classify(std::string_view sqlstate);

struct RetryPolicy {
  int max_attempts = 5;                         // unless the event says otherwise
  std::chrono::milliseconds base{1000};         // delay after the first failure
  std::chrono::milliseconds longest{3600'000};  // base, if that is longer

  // The delay after `attempts` failures (1, 2, …): base doubled each time, capped at `longest`, of
  // which a random share between half and the whole is taken, so that events that failed together
  // do not come back together. `random` is in [0, 1).
  [[nodiscard]] std::chrono::milliseconds delay(int attempts, double random) const;
};

}  // namespace spillway
