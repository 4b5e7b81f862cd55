#include "tests/bench/latency.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

#include "tests/bench/clients.hpp"

namespace spillway::bench {
namespace {

using std::chrono::steady_clock;
using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

Connection connect(const std::string& database) {
  Connection connection(PQconnectdb(database.c_str()), &PQfinish);
  if (PQstatus(connection.get()) != CONNECTION_OK)
    throw std::runtime_error(PQerrorMessage(connection.get()));
  return connection;
}

void execute(const Connection& connection, const std::string& sql) {
  const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection.get(), sql.c_str()),
                                                             &PQclear);
  const auto status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
    throw std::runtime_error(PQerrorMessage(connection.get()));
}

void print(std::vector<double> milliseconds) {
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto at = [&](double share) {
    return milliseconds[static_cast<std::size_t>(static_cast<double>(milliseconds.size() - 1) *
                                                 share)];
  };
  std::printf("{\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n", at(0.5),
              at(0.9), at(0.99), at(1));
}

template <class Once>
void measure(const LatencyOptions& options, Once once) {
  std::vector<double> taken;
  for (std::size_t i = 0; i < options.warm_up + options.count; ++i) {
    const auto begin = steady_clock::now();
    once();
    const std::chrono::duration<double, std::milli> time = steady_clock::now() - begin;
    if (i >= options.warm_up) taken.push_back(time.count());
  }
  print(std::move(taken));
}

}  // namespace

int run_latency(const LatencyOptions& options) {
  Clients clients;
  clients.open(options.port, options.target);
  clients.await_greetings(options.greetings, std::chrono::seconds(10));
  const Connection connection = connect(options.database);
  measure(options, [&] {
    execute(connection, options.sql);
    clients.await_frames(1, std::chrono::seconds(10));
  });
  return 0;
}

int run_notify_latency(const LatencyOptions& options) {
  const Connection writer = connect(options.database);
  const Connection listener = connect(options.database);
  execute(listener, "LISTEN bench");
  measure(options, [&] {
    execute(writer, "BEGIN; " + options.sql + "; NOTIFY bench; COMMIT");
    for (bool heard = false; !heard;) {
      pollfd descriptor{PQsocket(listener.get()), POLLIN, 0};
      if (::poll(&descriptor, 1, 10'000) != 1) throw std::runtime_error("no NOTIFY came");
      PQconsumeInput(listener.get());
      while (PGnotify* notify = PQnotifies(listener.get())) {
        PQfreemem(notify);
        heard = true;
      }
    }
    execute(listener, options.answer);
  });
  return 0;
}

}  // namespace spillway::bench
