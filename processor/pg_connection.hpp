// The one place that knows libpqxx (6.4 to 7.x): a connection as a SqlSession.
//
// One connection, one thread; not movable. Never reconnects by itself: libpqxx 6 would run a later
// call on a new backend, where the transaction, its locks and its prepared statements do not exist.
// Once ConnectionLost was thrown, or lost() says so, throw the object away and make a new one.
// Errors: ConnectionLost (the constructor too, with a message that holds no password), SqlError.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "effects/sql.hpp"

namespace spillway {

// How to reach the database: a libpq connection string or URL; empty means libpq's own PG*
// variables and defaults. `application_name` shows in pg_stat_activity.
struct PgTarget {
  std::string url;
  std::string application_name = "spillway";
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
