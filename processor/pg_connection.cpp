#include "processor/pg_connection.hpp"

#include <list>
#include <optional>
#include <pqxx/pqxx>
#include <unordered_set>
#include <utility>
#include <vector>

// exec_params and exec_prepared are deprecated in the newest libpqxx but the only way in the
// oldest.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace spillway {
namespace {

class PgRows final : public Rows::Source {
 public:
  explicit PgRows(pqxx::result result) : result_(std::move(result)) {}
  std::size_t size() const override { return static_cast<std::size_t>(result_.size()); }
  bool is_null(std::size_t row, std::size_t column) const override {
    return field(row, column).is_null();
  }
  std::string_view text(std::size_t row, std::size_t column) const override {
    const auto value = field(row, column);
    return {value.c_str(), value.size()};
  }
  std::size_t affected() const override {
    return static_cast<std::size_t>(result_.affected_rows());
  }

 private:
  pqxx::field field(std::size_t row, std::size_t column) const {
    return result_[static_cast<pqxx::result::size_type>(row)]
                  [static_cast<pqxx::row::size_type>(column)];
  }
  pqxx::result result_;
};

#if PQXX_VERSION_MAJOR < 7
class Receiver final : public pqxx::notification_receiver {
 public:
  Receiver(pqxx::connection& connection, const std::string& channel, std::function<void()> callback)
      : notification_receiver(connection, channel), callback_(std::move(callback)) {}
  void operator()(const std::string&, int) override { callback_(); }

 private:
  std::function<void()> callback_;
};
#else
class Receiver final : public pqxx::notification_receiver {
 public:
  Receiver(pqxx::connection& connection, const std::string& channel, std::function<void()> callback)
      : notification_receiver(connection, channel), callback_(std::move(callback)) {}
  void operator()(std::string const&, int) override { callback_(); }

 private:
  std::function<void()> callback_;
};
#endif

// Behind a pooler: those that statements outside a transaction depend on. They are among the few
// that PgBouncer keeps for each of its clients and hands to whatever server connection it gives
// them.
constexpr const char* pooled_session_settings =
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET standard_conforming_strings = on";

// And with each BEGIN the rest. Nothing of it outlives the transaction, so nobody inherits it.
constexpr const char* pooled_transaction_settings =
    "; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO';"
    "SET LOCAL IntervalStyle = 'postgres'; SET LOCAL client_min_messages = 'warning';"
    "SET LOCAL jit = off; SET LOCAL bytea_output = 'hex'; SET LOCAL standard_conforming_strings = "
    "on";

// libpqxx 6 leaves the SQLSTATE out of some of its exceptions; then their type must say it.
std::string state_of(const pqxx::sql_error& error) {
  if (!error.sqlstate().empty()) return error.sqlstate();
  if (dynamic_cast<const pqxx::insufficient_privilege*>(&error) != nullptr) return "42501";
  if (dynamic_cast<const pqxx::disk_full*>(&error) != nullptr) return "53100";
  if (dynamic_cast<const pqxx::out_of_memory*>(&error) != nullptr) return "53200";
  if (dynamic_cast<const pqxx::insufficient_resources*>(&error) != nullptr) return "53000";
  if (dynamic_cast<const pqxx::unique_violation*>(&error) != nullptr) return "23505";
  if (dynamic_cast<const pqxx::integrity_constraint_violation*>(&error) != nullptr) return "23000";
  if (dynamic_cast<const pqxx::data_exception*>(&error) != nullptr) return "22000";
  if (dynamic_cast<const pqxx::syntax_error*>(&error) != nullptr) return "42601";
  if (dynamic_cast<const pqxx::feature_not_supported*>(&error) != nullptr) return "0A000";
  if (dynamic_cast<const pqxx::plpgsql_error*>(&error) != nullptr) return "P0001";
  return {};
}

}  // namespace

struct PgConnection::Impl {
  explicit Impl(const PgTarget& target)
      : connection(connection_string(target)),
        quiet(connection),
        pooled(target.pooler == Pooler::transaction) {
#if PQXX_VERSION_MAJOR < 7
    connection.inhibit_reactivation(true);
#endif
    transaction.emplace(connection);
  }

  pqxx::connection connection;
  pqxx::quiet_errorhandler quiet;
  std::vector<std::unique_ptr<Receiver>> receivers;
  std::unordered_set<std::string> prepared;
  // Transactions are begun and ended by our own statements, which may then share a round trip.
  std::optional<pqxx::nontransaction> transaction;
  bool pooled;
  std::string begin_settings;  // pooled: what goes with each BEGIN
  bool lost = false;

  // A pooler makes up the process ids that it tells its clients, for it has no server process to
  // name when they connect. One in session mode does so too; there we do without what we could
  // have.
  bool knows_another_process() {
    const pqxx::result answer = transaction->exec("SELECT pg_backend_pid()");
    return answer[0][0].as<int>() != connection.backendpid();
  }

  template <typename Call>
  auto guarded(Call&& call) {
    try {
      return call();
    } catch (const pqxx::broken_connection& error) {
      lost = true;
      throw ConnectionLost(one_line_message(error.what()));
    } catch (const pqxx::serialization_failure& error) {  // in libpqxx 6 these are no sql_error
      throw SqlError("40001", one_line_message(error.what()));
    } catch (const pqxx::deadlock_detected& error) {
      throw SqlError("40P01", one_line_message(error.what()));
    } catch (const pqxx::sql_error& error) {
      const std::string state = state_of(error);
      if (!connection.is_open() || state.empty() || state.starts_with("08") ||
          state.starts_with("57P")) {
        lost = true;
        throw ConnectionLost(one_line_message(error.what()));
      }
      if (!pooled && (state == "26000" || state == "42P05"))
        throw PoolerError(one_line_message(error.what()) +
                          ": this looks like a pooler in transaction mode; write --pooler "
                          "transaction");
      throw SqlError(state, one_line_message(error.what()));
    } catch (const pqxx::failure& error) {  // in doubt, or libpq's own trouble
      lost = true;
      throw ConnectionLost(one_line_message(error.what()));
    }
  }
};

PgConnection::PgConnection(const PgTarget& target) {
  try {
    impl_ = std::make_unique<Impl>(target);
    impl_->guarded([&] {
      const int server_version = impl_->connection.server_version();
      if (target.pooler == Pooler::automatic) impl_->pooled = impl_->knows_another_process();
      if (!impl_->pooled)
        return impl_->transaction->exec(session_settings(target.limits, server_version));
      impl_->begin_settings =
          pooled_transaction_settings + limit_settings(target.limits, server_version, "SET LOCAL");
      return impl_->transaction->exec(pooled_session_settings);
    });
    if (target.counters) target.counters->made.fetch_add(1, std::memory_order_relaxed);
  } catch (const ConnectionLost&) {
    if (target.counters) target.counters->failed.fetch_add(1, std::memory_order_relaxed);
    throw;
  } catch (const std::exception& error) {
    if (target.counters) target.counters->failed.fetch_add(1, std::memory_order_relaxed);
    throw ConnectionLost(hide_password(one_line_message(error.what())));
  }
}

PgConnection::~PgConnection() {
  try {
    impl_->receivers.clear();
    impl_->transaction.reset();
  } catch (...) {  // a lost connection has nothing left to clean
  }
}

Rows PgConnection::run(const Statement& statement, std::span<const Parameter> parameters) {
  return impl_->guarded([&] {
    auto& transaction = *impl_->transaction;
    // libpqxx 6 takes no parameters in binary form where their number is not known beforehand.
    std::list<std::string> arrays;
    std::vector<const char*> texts;
    texts.reserve(parameters.size());
    for (const Parameter& parameter : parameters)
      texts.push_back(parameter.array() == nullptr
                          ? parameter.text()
                          : arrays.emplace_back(parameter.array()->text()).c_str());
#if PQXX_VERSION_MAJOR < 7
    const auto values = pqxx::prepare::make_dynamic_params(texts.begin(), texts.end());
#else
    pqxx::params values;
    values.reserve(texts.size());
    for (const char* text : texts) values.append(text);
#endif
    if (statement.name.empty() || impl_->pooled)
      return Rows(std::make_unique<PgRows>(transaction.exec_params(statement.text, values)));
    if (impl_->prepared.insert(statement.name).second) {
      try {
        impl_->connection.prepare(statement.name, statement.text);
      } catch (...) {
        impl_->prepared.erase(statement.name);
        throw;
      }
    }
    return Rows(std::make_unique<PgRows>(transaction.exec_prepared(statement.name, values)));
  });
}

Rows PgConnection::exec(const std::string& sql) {
  return impl_->guarded([&] {
    if (impl_->pooled && sql.starts_with("BEGIN"))
      return Rows(std::make_unique<PgRows>(impl_->transaction->exec(sql + impl_->begin_settings)));
    return Rows(std::make_unique<PgRows>(impl_->transaction->exec(sql)));
  });
}

void PgConnection::forget(const Statement& statement) {
  if (impl_->prepared.erase(statement.name) == 0) return;
  impl_->guarded([&] { impl_->connection.unprepare(statement.name); });
}

void PgConnection::listen(const std::string& channel, std::function<void()> on_notify) {
  impl_->guarded([&] {
    impl_->transaction.reset();  // libpqxx takes LISTEN only outside its transactions
    impl_->receivers.push_back(
        std::make_unique<Receiver>(impl_->connection, channel, std::move(on_notify)));
    impl_->transaction.emplace(impl_->connection);
  });
}

void PgConnection::poll_notifications() {
  impl_->guarded([&] {
    impl_->transaction.reset();
    impl_->connection.get_notifs();
    if (!impl_->connection.is_open()) throw pqxx::broken_connection("the connection was closed");
    impl_->transaction.emplace(impl_->connection);
  });
}

int PgConnection::socket() const {
  return static_cast<int>(impl_->connection.sock());
}

int PgConnection::backend_pid() const {
  return impl_->connection.backendpid();
}

bool PgConnection::pooled() const {
  return impl_->pooled;
}

bool PgConnection::lost() const {
  return impl_->lost;
}

}  // namespace spillway
