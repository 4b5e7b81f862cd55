// What the runners count: events by type and outcome, how long handlers and batches take.
//
// Each runner counts in a block of its own (RunnerMeter), which has one writer, so counting is a
// plain store; snapshot() adds the runners up and may be called from any thread. Types come from
// whoever inserts events, so only so many have a line of their own: the others share `other`.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "processor/wake.hpp"
#include "sse/counters.hpp"

namespace spillway {

// What became of an event, by this process.
enum class Outcome : std::uint8_t {
  done,
  unhandled,  // done, without a handler
  discarded,  // a dead letter that was given up, taken out of the line
  retried,    // failed, and will be tried again
  dead,
  count
};
[[nodiscard]] std::string_view to_string(Outcome outcome);

// Nanoseconds; events; nanoseconds.
inline constexpr std::array<std::uint64_t, 9> handler_bounds{
    10'000,     50'000,      250'000,       1'000'000,     5'000'000,
    25'000'000, 100'000'000, 1'000'000'000, 10'000'000'000};
inline constexpr std::array<std::uint64_t, 9> batch_size_bounds{1,   2,    5,    10,   50,
                                                                200, 1000, 5000, 20000};
inline constexpr std::array<std::uint64_t, 11> batch_time_bounds{
    1'000'000,   2'500'000,   5'000'000,     10'000'000,    25'000'000,    50'000'000,
    100'000'000, 250'000'000, 1'000'000'000, 5'000'000'000, 30'000'000'000};

using HandlerHistogram = sse::Histogram<handler_bounds>;
using BatchSizeHistogram = sse::Histogram<batch_size_bounds>;
using BatchTimeHistogram = sse::Histogram<batch_time_bounds>;

// Of one type, or of all others, in one runner.
struct TypeMeter {
  sse::CountBy<Outcome> outcomes;  // after COMMIT
  HandlerHistogram handler_time;   // of each run of the handlers, whatever became of the batch
};

class EventMeter;

// Of one runner; the runner's thread writes.
class alignas(64) RunnerMeter {
 public:
  explicit RunnerMeter(EventMeter& all) : all_(all) {}

  // The type's meter, for as long as this lives. Takes a lock: remember it. `named`: there are
  // handlers for this very type.
  [[nodiscard]] TypeMeter& of(const std::string& type, bool named);

  sse::Count held;      // looks at events that an earlier one of their stream holds back
  sse::Count repeated;  // batches that were rolled back, to be done again
  sse::Count suspect_steps;
  sse::Count broadcasts;
  sse::Count ephemeral;
  sse::CountBy<Woken> wakes;
  BatchSizeHistogram batch_events;  // of batches that took any
  BatchTimeHistogram batch_time;

 private:
  friend class EventMeter;

  EventMeter& all_;
  std::mutex mutex_;  // guards types_, not what is in it
  std::map<std::string, std::unique_ptr<TypeMeter>, std::less<>> types_;
};

// All runners together.
struct EventCounts {
  struct OfType {
    std::array<std::uint64_t, sse::CountBy<Outcome>::size> outcomes{};
    HandlerHistogram::Values handler_time;
  };
  std::map<std::string, OfType> types;
  std::uint64_t held = 0;
  std::uint64_t repeated = 0;
  std::uint64_t suspect_steps = 0;
  std::uint64_t broadcasts = 0;
  std::uint64_t ephemeral = 0;
  std::array<std::uint64_t, sse::CountBy<Woken>::size> wakes{};
  BatchSizeHistogram::Values batch_events;
  BatchTimeHistogram::Values batch_time;

  [[nodiscard]] std::uint64_t outcome(Outcome which) const;  // of all types
};

class EventMeter {
 public:
  // Types with a line of their own: those that handlers are registered for, and others.
  static constexpr std::size_t most_named = 200;
  static constexpr std::size_t most_unnamed = 50;
  static constexpr std::size_t longest_name = 128;  // bytes
  static constexpr const char* other = "other";

  // Lives as long as this.
  [[nodiscard]] RunnerMeter& add_runner();

  [[nodiscard]] EventCounts snapshot() const;

 private:
  friend class RunnerMeter;

  // The name that a type is counted under.
  [[nodiscard]] std::string admit(const std::string& type, bool named);

  mutable std::mutex mutex_;  // guards what follows
  std::set<std::string, std::less<>> named_;
  std::set<std::string, std::less<>> unnamed_;
  std::vector<std::unique_ptr<RunnerMeter>> runners_;
};

}  // namespace spillway
