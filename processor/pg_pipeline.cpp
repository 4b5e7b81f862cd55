#include "processor/pg_pipeline.hpp"

#include <libpq-fe.h>

#include <cstdlib>
#include <exception>
#include <string_view>
#include <utility>

namespace spillway {

class PgPipeline::Source final : public Rows::Source {
 public:
  explicit Source(Result result)
      : result_(std::move(result)), size_(static_cast<std::size_t>(PQntuples(result_.get()))) {}
  std::size_t size() const override { return size_; }
  bool is_null(std::size_t row, std::size_t column) const override {
    return PQgetisnull(result_.get(), static_cast<int>(row), static_cast<int>(column)) != 0;
  }
  std::string_view text(std::size_t row, std::size_t column) const override {
    const int r = static_cast<int>(row), c = static_cast<int>(column);
    return {PQgetvalue(result_.get(), r, c),
            static_cast<std::size_t>(PQgetlength(result_.get(), r, c))};
  }
  std::size_t affected() const override {
    return std::strtoull(PQcmdTuples(result_.get()), nullptr, 10);
  }

 private:
  Result result_;
  std::size_t size_;
};

void PgPipeline::Close::operator()(pg_conn* connection) const {
  PQfinish(connection);
}
void PgPipeline::Clear::operator()(pg_result* result) const {
  PQclear(result);
}

PgPipeline::PgPipeline(const PgTarget& target)
    : connection_(PQconnectdb(connection_string(target).c_str())) {
  const auto count = [&](auto member) {
    if (target.counters) ((*target.counters).*member).fetch_add(1, std::memory_order_relaxed);
  };
  try {
    if (PQstatus(connection_.get()) != CONNECTION_OK) lose();
    // What the server says besides is for people at a terminal.
    PQsetNoticeReceiver(
        connection_.get(), [](void*, const PGresult*) {}, nullptr);
    if (target.pooler != Pooler::none)
      pooled_ = exec("SELECT pg_backend_pid()").integer<int>(0, 0) != backend_pid();
    if (!pooled_) exec(session_settings(target.limits, PQserverVersion(connection_.get())));
  } catch (const std::exception& error) {
    count(&ConnectionCounters::failed);
    throw ConnectionLost(hide_password(error.what()));
  }
  count(&ConnectionCounters::made);
}

int PgPipeline::backend_pid() const {
  return PQbackendPID(connection_.get());
}

Rows PgPipeline::run(const Statement& statement, std::span<const Parameter> parameters) {
  Rows rows;
  send(statement, parameters, {});
  sent_.back().rows = &rows;
  finish();
  return rows;
}

void PgPipeline::send(const Statement& statement, std::span<const Parameter> parameters,
                      Answer answer) {
  send_named(statement.name, statement.text, parameters, std::move(answer));
}

// Prepared too: the parser would cost more than the statement.
void PgPipeline::send_exec(const std::string& sql) {
  send_named(sql, sql, {}, {});
}

void PgPipeline::send_named(const std::string& name, const std::string& text,
                            std::span<const Parameter> parameters, Answer answer) {
  pg_conn* const connection = connection_.get();
  if (PQpipelineStatus(connection) == PQ_PIPELINE_OFF) must(PQenterPipelineMode(connection));
  const std::size_t count = parameters.size();
  values_.resize(count);
  lengths_.resize(count);
  formats_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const SqlArray* const array = parameters[i].array();
    values_[i] = array == nullptr ? parameters[i].text() : array->binary().data();
    lengths_[i] = array == nullptr ? 0 : static_cast<int>(array->binary().size());
    formats_[i] = array == nullptr ? 0 : 1;
  }
  if (name.empty()) {
    must(PQsendQueryParams(connection, text.c_str(), static_cast<int>(count), nullptr,
                           values_.data(), lengths_.data(), formats_.data(), 0));
  } else {
    if (!prepared_.contains(name) && preparing_.insert(name).second) {
      must(PQsendPrepare(connection, name.c_str(), text.c_str(), 0, nullptr));
      sent_.push_back({{}, nullptr, name});
    }
    must(PQsendQueryPrepared(connection, name.c_str(), static_cast<int>(count), values_.data(),
                             lengths_.data(), formats_.data(), 0));
  }
  sent_.push_back({std::move(answer), nullptr, {}});
}

void PgPipeline::finish() {
  if (sent_.empty()) return;
  must(PQpipelineSync(connection_.get()));
  const std::vector<Sent> sent = std::exchange(sent_, {});
  preparing_.clear();
  std::exception_ptr first;
  for (const Sent& one : sent) {
    Result result = next();
    if (!result) lose();
    try {
      // What is behind an error was not carried out.
      if (!first) {
        Rows rows = rows_or_throw(std::move(result));
        if (!one.prepares.empty())
          prepared_.insert(one.prepares);
        else if (one.rows != nullptr)
          *one.rows = std::move(rows);
        else if (one.answer)
          one.answer(rows);
      }
    } catch (const ConnectionLost&) {
      throw;
    } catch (...) {
      first = std::current_exception();
    }
    if (next()) lose();  // each answer ends with a null
  }
  const Result end = next();
  if (!end || PQresultStatus(end.get()) != PGRES_PIPELINE_SYNC) lose();
  if (PQexitPipelineMode(connection_.get()) == 0) lose();
  if (first) std::rethrow_exception(first);
}

Rows PgPipeline::exec(const std::string& sql) {
  finish();
  Result result(PQexec(connection_.get(), sql.c_str()));
  if (!result) lose();
  return rows_or_throw(std::move(result));
}

void PgPipeline::forget(const Statement& statement) {
  finish();
  if (prepared_.erase(statement.name) == 0) return;
  exec("DEALLOCATE \"" + statement.name + '"');
}

PgPipeline::Result PgPipeline::next() {
  return Result(PQgetResult(connection_.get()));
}

void PgPipeline::must(int sent) {
  if (sent == 0) lose();
}

Rows PgPipeline::rows_or_throw(Result result) {
  const ExecStatusType status = PQresultStatus(result.get());
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
    return Rows(std::make_unique<Source>(std::move(result)));
  fail(result.get());
}

void PgPipeline::fail(const pg_result* result) {
  const char* const field = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string state = field == nullptr ? "" : field;
  const std::string message = one_line_message(PQresultErrorMessage(result));
  if (state.empty() || state.starts_with("08") || state.starts_with("57P") ||
      PQstatus(connection_.get()) != CONNECTION_OK)
    throw ConnectionLost(message);
  if (state == "26000" || state == "42P05")
    throw PoolerError(message +
                      ": this looks like a pooler in transaction mode; write --pooler "
                      "transaction");
  throw SqlError(state, message);
}

void PgPipeline::lose() {
  throw ConnectionLost(one_line_message(PQerrorMessage(connection_.get())));
}

}  // namespace spillway
