// What the streams count: plain numbers, each counted at the place where it is decided.
//
// A shard counts in a block of its own, so the hot path shares no cache line with another thread
// and takes no lock: a Count has one writer (the shard's thread) and any number of readers.
// Server::counters() adds the shards up. Nothing here knows how the numbers are shown.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace spillway::sse {

// Why an open stream ended. A new reason goes before `count` and into to_string().
enum class StreamEnd : std::uint8_t {
  closed,       // by the client: its connection was closed, reset or found dead
  lagged,       // what it had not been sent yet was let go of
  blocked,      // it took nothing for too long
  expired,      // its token
  unavailable,  // what it asked for could not be read now: sent away to come back
  restarted,    // the line of positions was replaced, or part of it lost
  shutdown,
  error,  // something of ours went wrong with it
  count
};
[[nodiscard]] std::string_view to_string(StreamEnd end);

// Why a connection, or a request for a stream, was turned away. As above.
enum class Refusal : std::uint8_t {
  connections,  // too many in all: told to come back
  reserve,      // even more: closed without an answer
  address,      // too many of one address
  channel,      // too many on one channel
  not_ready,    // no line of positions yet, or stopping: told to come back
  unauthorized,
  forbidden,
  count
};
[[nodiscard]] std::string_view to_string(Refusal refusal);

// Where a stream was served from when it began. As above.
enum class ResumeSource : std::uint8_t {
  fresh,     // it did not ask to resume
  memory,    // all that it had missed was here
  database,  // pages were read
  reset_expired,
  reset_epoch,
  reset_future,
  reset_invalid,
  unavailable,  // could not be read now
  count
};
[[nodiscard]] std::string_view to_string(ResumeSource source);

// A number with one writer; anybody may read it. As a gauge: set().
class Count {
 public:
  void add(std::uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// One Count for each value of an enum that ends with `count`.
template <class Enum>
class CountBy {
 public:
  static constexpr std::size_t size = static_cast<std::size_t>(Enum::count);

  void add(Enum which, std::uint64_t n = 1) { counts_[static_cast<std::size_t>(which)].add(n); }
  [[nodiscard]] std::uint64_t value(Enum which) const {
    return counts_[static_cast<std::size_t>(which)].value();
  }

 private:
  std::array<Count, size> counts_{};
};

// What a histogram has seen, in the unit of its bounds. `buckets` has one more than there are
// bounds, and each observation stands in one of them.
template <std::size_t Bounds>
struct HistogramValues {
  std::array<std::uint64_t, Bounds + 1> buckets{};
  std::uint64_t sum = 0;

  [[nodiscard]] std::uint64_t observations() const {
    std::uint64_t all = 0;
    for (const std::uint64_t bucket : buckets) all += bucket;
    return all;
  }
  HistogramValues& operator+=(const HistogramValues& other) {
    for (std::size_t i = 0; i < buckets.size(); ++i) buckets[i] += other.buckets[i];
    sum += other.sum;
    return *this;
  }
};

// A histogram with one writer. `Limits`: the upper bounds, ascending, included in their bucket.
template <const auto& Limits>
class Histogram {
 public:
  static constexpr std::size_t size = Limits.size();
  using Values = HistogramValues<size>;

  void observe(std::uint64_t value) {
    std::size_t bucket = 0;
    while (bucket < size && value > Limits[bucket]) ++bucket;
    buckets_[bucket].add();
    sum_.add(value);
  }
  [[nodiscard]] Values values() const {
    Values values;
    for (std::size_t i = 0; i <= size; ++i) values.buckets[i] = buckets_[i].value();
    values.sum = sum_.value();
    return values;
  }

 private:
  std::array<Count, size + 1> buckets_{};
  Count sum_;
};

// From the return of the COMMIT to the system call that took the frame; nanoseconds.
inline constexpr std::array<std::uint64_t, 13> kDeliveryBounds{
    100'000,    250'000,     500'000,     1'000'000,     2'500'000,     5'000'000,     10'000'000,
    25'000'000, 100'000'000, 250'000'000, 1'000'000'000, 2'500'000'000, 10'000'000'000};
using DeliveryHistogram = Histogram<kDeliveryBounds>;

// Of one shard; its thread writes.
struct alignas(64) ShardCounters {
  // On the way of every frame.
  Count sends;     // system calls that took something
  Count frames;    // of the log in memory; one that was cut counts with its first byte
  Count bytes;     // of all kinds, on streams
  Count deferred;  // system calls that took nothing: the socket was full
  DeliveryHistogram delivery;

  Count streams_opened;
  Count frames_replayed;  // of pages that were read from the database
  Count heartbeats;
  Count pages_asked;  // of the database; what was asked and not answered is waiting
  Count pages_answered;
  CountBy<StreamEnd> ends;
  CountBy<Refusal> refusals;
  CountBy<ResumeSource> resumes;
  std::array<Count, 6> responses;  // to plain requests, by hundreds of the status; [0]: odd ones

  // As they stand.
  Count pages_queued;  // that streams want and may not read yet
  Count sessions;      // connections that are not streams
  Count log_bytes;     // memory that the log costs; shards share it
  Count log_base;      // the positions base < p <= end are in memory
  Count log_end;
};

// All shards together, and what is counted before a connection has a shard.
struct ServerCounters {
  std::uint64_t connections_accepted = 0;
  std::uint64_t streams = 0;             // open now
  std::uint64_t sessions = 0;            // open now
  std::int64_t certificate_expires = 0;  // seconds since 1970; 0: TLS is not served
  std::uint64_t streams_opened = 0;
  std::uint64_t sends = 0;
  std::uint64_t deferred = 0;
  std::uint64_t frames = 0;
  std::uint64_t frames_replayed = 0;
  std::uint64_t bytes = 0;
  std::uint64_t heartbeats = 0;
  std::uint64_t pages_read = 0;
  std::uint64_t pages_waiting = 0;
  std::uint64_t log_bytes = 0;      // of the largest log; shards share what is in it
  std::uint64_t log_positions = 0;  // that are in memory
  std::uint64_t parked_bytes = 0;   // of broadcasts that wait for a hole to fill
  DeliveryHistogram::Values delivery;
  std::array<std::uint64_t, CountBy<StreamEnd>::size> ends{};
  std::array<std::uint64_t, CountBy<Refusal>::size> refusals{};
  std::array<std::uint64_t, CountBy<ResumeSource>::size> resumes{};
  std::array<std::uint64_t, 6> responses{};

  void add(const ShardCounters& shard);
};

}  // namespace spillway::sse
