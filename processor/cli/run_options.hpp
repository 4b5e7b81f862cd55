// The options that `run` and `dev` share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "processor/cli/connection_options.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {

struct RunOptions {
  std::vector<std::string> handlers;
  std::vector<std::string> roles{"worker", "sse"};
  std::string port_file;
  bool insecure = false;
  std::vector<std::string> auth_keys;
  std::vector<std::string> public_channels;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors;
  std::size_t runners = 2;
  std::size_t batch = 1000;
  int max_attempts = 5;
  std::string retry_delay = "1s";
  std::string unhandled = "done";
  std::string dead_stream = "release";
  std::string lock_timeout = "10s";
  std::string batch_timeout = "1m";
  std::string shutdown_timeout = "10s";
  std::string drain_delay = "0";
  std::string handler_timeout = "10s";
  std::uint64_t memory_limit = 0;
  bool supervised = false;
  std::string connect_timeout = "10s";
  std::string sse_retry = "2s";
  std::string heartbeat = "15s";
  std::size_t log_megabytes = 64;
  std::size_t replay_megabytes = 64;
  std::vector<std::string> latest;
  std::size_t latest_channels = 10'000;
  std::size_t latest_megabytes = 16;
  int coalesce_ms = 0;
  std::size_t channels_per_connection = 100;
  std::size_t subscribers_per_channel = 0;
  std::vector<std::string> presence;
  std::string presence_leave_delay = "5s";
  ConnectionOptions connections;
  std::vector<std::string> webhook_allow;
  std::string webhook_timeout = "30s";
  std::string webhook_connect_timeout = "5s";
  int webhook_attempts = 8;
  std::string webhook_retry_delay = "5s";
  std::size_t webhooks_in_flight = 32;
  std::string keep_broadcasts = "3d";
  std::string keep_broadcasts_count = "10000000";
  std::int64_t keep_channel_floors = 1'000'000;
  std::string keep_events = "forever";
  std::string keep_webhooks = "30d";
  std::string log_format = "text";
  std::string log_level = "info";
  bool access_log = false;
  std::string hint;

  void add_to(CLI::App& command);

  // Throws ConfigurationError for what is not understood.
  [[nodiscard]] WorkerOptions worker_options(PgTarget target) const;
};

// With --supervise: becomes a supervisor and its workers. In the supervisor, which comes back only
// at the end, the exit code; in a worker, and without --supervise, nothing: go on, with these
// options.
[[nodiscard]] std::optional<int> become_supervised(const RunOptions& run, WorkerOptions& worker);

// What is printed once everything runs: where it can be reached, and a psql line that makes
// something happen.
[[nodiscard]] std::string invitation(const std::vector<sse::Endpoint>& listening, bool encrypted,
                                     const std::string& shown_url, const std::string& hint);

}  // namespace spillway::cli
