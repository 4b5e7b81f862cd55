// What becomes of an event whose handling failed. Pure and thread-safe; randomness is handed in.
#pragma once

#include <chrono>
#include <string_view>

namespace spillway {

enum class FailureClass {
  outage,         // the server is the trouble: wait it out, count nothing
  batch,          // serialization, deadlock, lock or statement timeout: the same batch again
  deterministic,  // no retry can mend it: SQLSTATE classes 22 (data) and 42 (names, types, rights)
  retryable,      // anything else: later, up to the attempts
};

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
