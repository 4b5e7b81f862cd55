// Latency on an idle system, one INSERT at a time: from sending it to the frame at a client. Prints
// one JSON object with percentiles in milliseconds: p50_ms, p90_ms, p99_ms, max_ms. Errors:
// std::runtime_error. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace spillway::bench {

struct LatencyOptions {
  std::string database;  // libpq connection string
  std::string sql;       // one statement that leads to one frame (or is notified of)
  std::string answer;    // run_notify_latency(): what the one who hears of it commits
  std::uint16_t port = 0;
  std::string target;           // of the stream
  std::uint64_t greetings = 1;  // frames that a new stream begins with
  std::size_t count = 1000;
  std::size_t warm_up = 100;
};

int run_latency(const LatencyOptions& options);

// What no system of this kind can be quicker than: an insert with a NOTIFY committed by one
// session, heard by another, which commits an insert of its own.
int run_notify_latency(const LatencyOptions& options);

}  // namespace spillway::bench
