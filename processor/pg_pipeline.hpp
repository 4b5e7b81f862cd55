// A session of libpq itself, for the runners: what they send shares round trips (pipeline mode,
// which libpqxx does not offer). It prepares named statements, so it is for sessions of our own
// only; where pooled() says that there is a pooler in between, use a PgConnection instead.
//
// One session, one thread; not movable. Never reconnects: once ConnectionLost was thrown, throw the
// object away and make a new one. Errors: ConnectionLost (the constructor too, with a message that
// holds no password), SqlError, PoolerError.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "effects/sql.hpp"
#include "processor/pg_target.hpp"

struct pg_conn;
struct pg_result;

namespace spillway {

class PgPipeline final : public SqlSession {
 public:
  explicit PgPipeline(const PgTarget& target);

  using SqlSession::run;
  using SqlSession::send;
  Rows run(const Statement& statement, std::span<const Parameter> parameters) override;
  Rows exec(const std::string& sql) override;
  void forget(const Statement& statement) override;
  void send(const Statement& statement, std::span<const Parameter> parameters,
            Answer answer) override;
  void send_exec(const std::string& sql) override;
  void finish() override;

  [[nodiscard]] int backend_pid() const;
  // The server knows the connection under another process id than we: there is a pooler.
  [[nodiscard]] bool pooled() const { return pooled_; }

 private:
  struct Close {
    void operator()(pg_conn* connection) const;
  };
  struct Clear {
    void operator()(pg_result* result) const;
  };
  class Source;
  using Result = std::unique_ptr<pg_result, Clear>;

  // What was sent and not answered yet.
  struct Sent {
    Answer answer;
    Rows* rows = nullptr;  // or here
    std::string prepares;  // a name: the answer is that of its preparation
  };

  void send_named(const std::string& name, const std::string& text,
                  std::span<const Parameter> parameters, Answer answer);
  void must(int sent);  // throws when libpq refused to send
  [[nodiscard]] Result next();
  [[nodiscard]] Rows rows_or_throw(Result result);
  [[noreturn]] void fail(const pg_result* result);
  [[noreturn]] void lose();

  std::unique_ptr<pg_conn, Close> connection_;
  std::vector<Sent> sent_;
  std::unordered_set<std::string> prepared_;   // and known to be
  std::unordered_set<std::string> preparing_;  // sent
  bool pooled_ = false;
  std::vector<const char*> values_;  // of the statement that is being sent
  std::vector<int> lengths_;
  std::vector<int> formats_;
};

}  // namespace spillway
