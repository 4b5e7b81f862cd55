// The one place that knows libpqxx (6.4 to 7.x): a connection as a SqlSession.
//
// One connection, one thread; not movable. Never reconnects by itself: libpqxx 6 would run a later
// call on a new backend, where the transaction, its locks and its prepared statements do not exist.
// Once ConnectionLost was thrown, or lost() says so, throw the object away and make a new one.
// Behind a pooler in transaction mode nothing is left in a session: statements are not prepared,
// and what a session would be set to is set in each transaction, in the round trip of its BEGIN.
// Errors: ConnectionLost (the constructor too, with a message that holds no password), SqlError,
// PoolerError.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "effects/sql.hpp"

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

class PgConnection final : public SqlSession {
 public:
  explicit PgConnection(const PgTarget& target);
  ~PgConnection() override;
  PgConnection(const PgConnection&) = delete;
  PgConnection& operator=(const PgConnection&) = delete;

  using SqlSession::run;
  Rows run(const Statement& statement, std::span<const char* const> parameters) override;
  Rows exec(const std::string& sql) override;
  void forget(const Statement& statement) override;

  // LISTEN; notifications are handed over during poll_notifications().
  void listen(const std::string& channel, std::function<void()> on_notify);
  // Takes what has arrived, without waiting. Throws ConnectionLost when the connection is gone.
  void poll_notifications();
  // The socket, to wait on for notifications.
  [[nodiscard]] int socket() const;

  [[nodiscard]] int backend_pid() const;
  // There is no session of our own: no LISTEN, no session locks, no temporary tables.
  [[nodiscard]] bool pooled() const;
  [[nodiscard]] bool lost() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// True for SQLSTATEs that say the server, not the statement, is the trouble: shutting down,
// starting, read-only after a failover, out of connections, memory or disk. Waited out, never
// counted.
[[nodiscard]] bool is_outage(const std::string& sqlstate);

// The server's message in one line, with DETAIL, without the LINE/CONTEXT decoration.
[[nodiscard]] std::string one_line_message(const std::string& server_message);

// `text` (a connection string or URL, or a message that quotes one) with every password replaced.
[[nodiscard]] std::string hide_password(std::string text);

}  // namespace spillway
