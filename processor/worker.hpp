// A whole `spillway run`: handlers, runners, listener, hub, feed and server, wired together,
// started in order, stopped in order.
//
// One object, one thread (it blocks until a signal or request_stop()). Call block_signals() before
// any other thread is started. Errors: the exceptions below say which exit code they mean.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "processor/address_policy.hpp"
#include "processor/journal.hpp"
#include "processor/pg_connection.hpp"
#include "processor/retention.hpp"
#include "processor/retry_policy.hpp"
#include "processor/tls_files.hpp"
#include "sse/latest.hpp"
#include "sse/presence.hpp"
#include "sse/server.hpp"

namespace spillway {

// What the user wrote cannot be done; the message says what to write instead. Exit code 2.
class ConfigurationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct WorkerOptions {
  PgTarget target;
  bool run_handlers = true;           // --roles worker
  bool serve_streams = true;          // --roles sse
  std::vector<std::string> handlers;  // directories and shared libraries
  std::string port_file;
  bool insecure = false;  // listen on other than loopback addresses without keys
  // Who may, see docs/security.md. Checked already, but for the files of the keys.
  std::vector<std::string> auth_keys;        // files
  std::vector<std::string> public_channels;  // grants that need no token
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors;  // origins, or "*"
  std::size_t runners = 1;
  std::size_t batch = 1000;
  RetryPolicy retry;
  bool unhandled_is_dead = false;
  bool dead_holds_stream = false;
  bool migrate = false;
  AddressPolicy webhook_policy;
  RetryPolicy webhook_retry{8, std::chrono::seconds(5), std::chrono::hours(1)};
  std::chrono::milliseconds webhook_timeout{30'000};
  std::chrono::milliseconds webhook_connect_timeout{5'000};
  std::size_t webhooks_in_flight = 32;
  // How long a statement may wait for a lock; and how long a runner that is stuck, or whose process
  // is frozen, keeps its lanes.
  std::chrono::milliseconds lock_timeout{10'000};
  std::chrono::milliseconds batch_timeout{60'000};
  std::chrono::milliseconds shutdown_timeout{10'000};
  // Of that, how long all goes on after the signal, but for /readyz: for balancers to notice.
  std::chrono::milliseconds drain_delay{0};
  std::chrono::milliseconds handler_timeout{10'000};  // 0: handlers are not watched
  std::uint64_t memory_limit = 0;                     // bytes of data (RLIMIT_DATA); 0: none
  // The process that this one replaces, and how it ended ("was ended by SIGSEGV").
  struct Previous {
    int pid = 0;
    std::string how;
  };
  std::optional<Previous> previous;
  std::chrono::milliseconds connect_timeout{10'000};
  std::size_t log_bytes = 64u << 20;  // frames kept in memory
  sse::LatestOptions latest;          // channels of which a late joiner gets the newest frame
  RetentionOptions retention;
  sse::ServerOptions server;
  TlsFiles tls;
  // Called once everything runs, with the ports that were got; nothing: no server.
  std::function<void(const std::vector<sse::Endpoint>& listening)> ready;
  JournalOptions log;
  bool access_log = false;
};

// So that signals reach the worker's wait and nothing else; threads started later inherit it.
void block_signals();

// Runs until SIGTERM or SIGINT; returns the exit code (0, or 1 when it could not finish in time).
// Throws SchemaVersionError, after an orderly stop, when the schema becomes newer than the binary.
int run_worker(const WorkerOptions& options);

// Waits for a database that is starting or away, then throws ConnectionLost.
void wait_for_database(const PgTarget& target, std::chrono::milliseconds most);

// "http://127.0.0.1:8080", "unix:/run/spillway.sock".
[[nodiscard]] std::string shown(const sse::Endpoint& endpoint, bool encrypted);

[[nodiscard]] bool is_loopback(const std::string& host);

}  // namespace spillway
