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

#include <functional>
#include <memory>
#include <string>

#include "effects/sql.hpp"
#include "processor/pg_target.hpp"

namespace spillway {

class PgConnection final : public SqlSession {
 public:
  explicit PgConnection(const PgTarget& target);
  ~PgConnection() override;
  PgConnection(const PgConnection&) = delete;
  PgConnection& operator=(const PgConnection&) = delete;

  using SqlSession::run;
  Rows run(const Statement& statement, std::span<const Parameter> parameters) override;
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

}  // namespace spillway
