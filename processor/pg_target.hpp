// How to reach the database, what every session of ours is set to, and how its errors are read.
// Values and pure functions.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace spillway {

// Prepared statements have vanished: the server connection is not ours beyond a transaction, and
// nobody said so. The message says what to write. Exit code 2.
class PoolerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Pooler {
  automatic,    // transaction, if the server knows the connection under another process id than we
  none,         // sessions are ours: nothing in between, or a pooler in session mode
  transaction,  // a server connection for the time of a transaction: PgBouncer's transaction mode
};

// What the server allows a session; 0: as the role or the database has it.
struct SessionLimits {
  std::chrono::milliseconds lock_wait{0};            // lock_timeout
  std::chrono::milliseconds statement{0};            // statement_timeout
  std::chrono::milliseconds idle_in_transaction{0};  // idle_in_transaction_session_timeout
  // How often a session that works or waits for a lock looks whether its client is still there
  // (client_connection_check_interval, PostgreSQL 14 and newer).
  std::chrono::milliseconds client_check{0};
};

// Connections that a process has made, and attempts that failed. Thread-safe.
struct ConnectionCounters {
  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> failed{0};
};

// How to reach the database: a libpq connection string or URL; empty means libpq's own PG*
// variables and defaults. `application_name` shows in pg_stat_activity.
struct PgTarget {
  std::string url;
  std::string application_name = "spillway";
  Pooler pooler = Pooler::automatic;
  std::string direct_url = {};  // past the pooler, for what needs a session of its own
  SessionLimits limits = {};
  std::shared_ptr<ConnectionCounters> counters = {};  // may be null

  [[nodiscard]] PgTarget direct() const;  // this one, if there is no other
};

// A libpq connection string: the target's, with what we want where it says nothing.
[[nodiscard]] std::string connection_string(const PgTarget& target);

// Statements that set a session of our own, limits included, and ("; SET …" or "; SET LOCAL …") the
// limits alone.
[[nodiscard]] std::string session_settings(const SessionLimits& limits, int server_version);
[[nodiscard]] std::string limit_settings(const SessionLimits& limits, int server_version,
                                         const std::string& scope);

// True for SQLSTATEs that say the server, not the statement, is the trouble: shutting down,
// starting, read-only after a failover, out of connections, memory or disk. Waited out, never
// counted.
[[nodiscard]] bool is_outage(const std::string& sqlstate);

// The server's message in one line, with DETAIL, without the LINE/CONTEXT decoration.
[[nodiscard]] std::string one_line_message(const std::string& server_message);

// `text` (a connection string or URL, or a message that quotes one) with every password replaced.
[[nodiscard]] std::string hide_password(std::string text);

}  // namespace spillway
