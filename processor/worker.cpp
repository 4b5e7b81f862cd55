#include "processor/worker.hpp"

#include <arpa/inet.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "processor/backoff.hpp"
#include "processor/descriptor_limit.hpp"
#include "processor/failure_log.hpp"
#include "processor/handler_watchdog.hpp"
#include "processor/journal.hpp"
#include "processor/listener.hpp"
#include "processor/load_handlers.hpp"
#include "processor/log_effect.hpp"
#include "processor/maintenance.hpp"
#include "processor/migrator.hpp"
#include "processor/outbox_reader.hpp"
#include "processor/reloads.hpp"
#include "processor/runner.hpp"
#include "processor/schedules.hpp"
#include "processor/stream_service.hpp"
#include "processor/suspects.hpp"
#include "processor/webhook_sender.hpp"
#include "processor/who_may.hpp"
#include "processor/worker_metrics.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&set, signal);
  return set;
}

// A process that has to end does not wait longer for whoever reads its log.
constexpr milliseconds longest_flush{200};

// Ends the process when the shutdown takes too long, or at a second signal.
class ShutdownWatch {
 public:
  ShutdownWatch(milliseconds most, Journal& journal)
      : journal_(journal), thread_([this, most] { watch(most); }) {}
  ~ShutdownWatch() {
    finished_ = true;
    thread_.join();
  }
  ShutdownWatch(const ShutdownWatch&) = delete;
  ShutdownWatch& operator=(const ShutdownWatch&) = delete;

 private:
  void watch(milliseconds most) {
    const auto deadline = steady_clock::now() + most;
    const sigset_t signals = stop_signals();
    while (!finished_) {
      const timespec tick{0, 20'000'000};
      const int signal = sigtimedwait(&signals, nullptr, &tick);
      if (signal == SIGTERM || signal == SIGINT) {
        journal_.flush(longest_flush);
        _exit(130);
      }
      if (steady_clock::now() > deadline) {
        spdlog::error(
            "the shutdown took longer than --shutdown-timeout; what was in hand is rolled back");
        journal_.flush(longest_flush);
        _exit(1);
      }
    }
  }
  Journal& journal_;
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

// Why the process stops by itself: the first reason that somebody gives. SIGUSR1 wakes it.
class StopReason {
 public:
  void give(std::exception_ptr why) {
    const std::scoped_lock lock(mutex_);
    if (why_) return;
    why_ = std::move(why);
    kill(getpid(), SIGUSR1);
  }
  bool given() const {
    const std::scoped_lock lock(mutex_);
    return why_ != nullptr;
  }
  std::optional<std::string> text() const {
    try {
      rethrow();
    } catch (const std::exception& error) {
      return error.what();
    }
    return std::nullopt;
  }
  void rethrow() const {
    const std::scoped_lock lock(mutex_);
    if (why_) std::rethrow_exception(why_);
  }

 private:
  mutable std::mutex mutex_;
  std::exception_ptr why_;
};

void write_port_file(const std::string& path, std::uint16_t port) {
  // Renamed into place: whoever waits for the file finds a whole number in it.
  const std::string fresh = path + ".new";
  {
    std::ofstream file(fresh);
    file << port << '\n';
    if (!file.flush()) throw ConfigurationError("--port-file " + path + ": cannot be written");
  }
  std::filesystem::rename(fresh, path);
}

// Everything is read anew; while anything is wrong with it, the old set stays in force.
std::string reload_handlers(const WorkerOptions& options, HandlerSet& handlers) {
  const auto fresh = load_handlers(options.handlers);
  PgConnection connection(options.target);
  check_reads(*fresh, connection);
  handlers.replace(fresh);
  return std::to_string(fresh->types().size()) + " event types";
}

int wait_for_stop_signal(Reloads& reloads, const StopReason& reason) {
  const sigset_t signals = stop_signals();
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal == SIGHUP) {
      reloads.run();
      continue;
    }
    if (signal == SIGUSR1 && !reason.given()) continue;
    return signal;
  }
}

void limit_memory(std::uint64_t bytes) {
  if (bytes == 0) return;
  const rlimit limit{bytes, bytes};
  if (setrlimit(RLIMIT_DATA, &limit) != 0)
    throw ConfigurationError("--memory-limit: the system allows no more than it gives already");
}

}  // namespace

void block_signals() {
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);  // NOLINT(concurrency-mt-unsafe): before there are threads
}

bool is_loopback(const std::string& host) {
  // An address, not a name that only begins like one.
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  return host == "localhost" || host == "::1";
}

std::string shown(const sse::Endpoint& endpoint, bool encrypted) {
  if (endpoint.is_unix()) return endpoint.text();
  return (encrypted ? "https://" : "http://") + endpoint.text();
}

void wait_for_database(const PgTarget& target, milliseconds most) {
  const auto deadline = steady_clock::now() + most;
  Backoff backoff(milliseconds(50), milliseconds(1000));
  for (;;) {
    try {
      PgConnection connection(target);
      return;
    } catch (const ConnectionLost&) {
      const auto pause = backoff.next();
      if (steady_clock::now() + pause > deadline) throw;
      std::this_thread::sleep_for(pause);
    }
  }
}

int run_worker(const WorkerOptions& options) {
  if (!options.run_handlers && !options.serve_streams)
    throw ConfigurationError("--roles: name at least one of worker, sse");
  if (options.serve_streams) check_exposure(options);
  const auto keys = options.serve_streams ? make_key_ring(options) : nullptr;

  Journal journal(options.log);
  limit_memory(options.memory_limit);
  if (options.serve_streams) raise_descriptor_limit(options.server.max_connections);
  auto loaded = std::make_shared<const Registry>();
  if (options.run_handlers) {
    loaded = load_handlers(options.handlers);
    if (loaded->types().empty())
      spdlog::warn(
          "no handlers: events are counted as {}; name a library or a directory with --handlers",
          options.unhandled_is_dead ? "dead" : "done");
  }

  const LogFunction log = [&journal](const LogLine& line) { journal.write(line); };
  FailureLog failures(log);
  const auto failed = [&failures](const std::string& key, const LogLine& line) {
    failures.write(key, line);
  };
  wait_for_database(options.target, options.connect_timeout);
  sse::Head head;
  {
    if (options.migrate) {
      PgConnection direct(options.target.direct());
      for (const auto& name : migrate(direct, [](const std::string& line) { spdlog::warn(line); }))
        spdlog::info("migrated: {}", name);
    }
    PgConnection connection(options.target);
    check_schema_version(connection);
    if (options.serve_streams) head = OutboxReader(connection).line().head;
    check_reads(*loaded, connection);
    if (options.run_handlers) {
      if (options.previous)
        await_end(connection, process_name(options.previous->pid), options.previous->how);
      note_ended_workers(connection, log);
    }
  }

  Wake events;
  Wake outbox;
  Wake presence;
  LaneMarks marks(most_lanes);
  Linger linger;
  RunnerCounters counters;
  EventMeter meter;

  Reloads reloads;
  StopReason reason;
  const auto give_up = [&reason](std::exception_ptr why) { reason.give(std::move(why)); };

  const int runner_count = options.run_handlers ? static_cast<int>(options.runners) : 0;
  const WorkerDescription self{runner_count, static_cast<int>(options.batch),
                               options.serve_streams};
  Listener listener({options.target, self, log, give_up,
                     options.server.presence.channels.empty() ? nullptr : &presence},
                    events, outbox);

  std::optional<StreamService> streams;
  if (options.serve_streams) {
    streams.emplace(StreamService::Surroundings{options, listener, outbox, presence, journal, log},
                    head, keys, reloads);
    streams->listen();
  }
  listener.start();
  if (streams) streams->follow();

  std::vector<MaintenanceTask> upkeep;
  const auto keep_up = [&upkeep](std::vector<MaintenanceTask> tasks) {
    std::move(tasks.begin(), tasks.end(), std::back_inserter(upkeep));
  };
  if (options.run_handlers) {
    keep_up(schedule_upkeep(log));
    keep_up(worker_upkeep(options.batch_timeout));
    keep_up({suspicion_upkeep(log)});
  }
  if (options.serve_streams) keep_up(stream_upkeep(options.latest.patterns));
  keep_up(retention_upkeep(options.retention));
  Maintenance maintenance(options.target, std::move(upkeep), log);
  maintenance.start();

  std::optional<WebhookSender> webhooks;
  if (options.run_handlers) {
    WebhookSenderOptions sender;
    sender.target = options.target;
    sender.client.policy = options.webhook_policy;
    sender.client.connect_timeout = options.webhook_connect_timeout;
    sender.client.timeout = options.webhook_timeout;
    sender.retry = options.webhook_retry;
    sender.in_flight = options.webhooks_in_flight;
    sender.log = log;
    sender.failed = failed;
    webhooks.emplace(std::move(sender));
    webhooks->start();
  }

  SuspectsShared suspects([&listener] { return listener.worker_id(); });
  HandlerWatchdog watchdog({options.target, options.handler_timeout,
                            static_cast<std::size_t>(runner_count), log,
                            [&journal] { journal.flush(longest_flush); }});
  watchdog.start();

  std::vector<std::unique_ptr<Runner>> runners;
  RunnerShared shared;
  shared.target = options.target;
  shared.target.limits = {options.lock_timeout, options.batch_timeout, options.batch_timeout,
                          milliseconds(1000)};
  HandlerSet handlers(loaded);
  if (options.run_handlers)
    reloads.add("handlers", [&] { return reload_handlers(options, handlers); });
  shared.handlers = &handlers;
  shared.marks = &marks;
  shared.wake = &events;
  shared.linger = &linger;
  shared.counters = &counters;
  shared.live_runners = [&] { return std::max(listener.live_runners(), runner_count); };
  shared.give_up = give_up;
  shared.connection_was_lost = [&outbox] { outbox.signal(); };
  shared.log = log;
  shared.looked = [&failures] { failures.tick(); };
  shared.batch.retry = options.retry;
  shared.batch.unhandled_is_dead = options.unhandled_is_dead;
  shared.batch.dead_holds_stream = options.dead_holds_stream;
  shared.batch.lock_timeout = options.lock_timeout;
  shared.batch.batch_timeout = options.batch_timeout;
  if (streams) {
    shared.sinks.broadcast = [&streams](sse::BroadcastBatch batch) {
      streams->publish(std::move(batch));
    };
    shared.sinks.settled = [&streams] { streams->settled(); };
  }
  shared.sinks.others_listen = [&listener] { return listener.others_listen(); };
  shared.sinks.warn = log;
  shared.sinks.failed = failed;
  if (webhooks) shared.sinks.webhooks = [&webhooks] { webhooks->wake(); };
  shared.sinks.log = [&journal](const LogOrigin& origin, const Log& entry) {
    journal.write(line_of(origin, entry));
  };
  shared.sinks.suspects = &suspects;
  shared.registered = [&listener] { return listener.worker_id() != 0; };
  shared.most_events = options.batch;
  for (int i = 0; i < runner_count; ++i) {
    shared.sinks.meter = &meter.add_runner();
    shared.sinks.handling = &watchdog.slot(static_cast<std::size_t>(i));
    runners.push_back(std::make_unique<Runner>(shared, i));
  }
  for (auto& runner : runners) runner->start();

  WorkerMetrics counted;
  if (options.run_handlers) counted.events = &meter;
  if (webhooks) counted.webhooks = &*webhooks;
  counted.connections = options.target.counters.get();
  counted.max_connections = options.server.max_connections;
  counted.journal = &journal;
  if (streams) streams->serve_metrics(counted);
  // Before anything that is counted goes, however this ends.
  const auto stop_metrics = [&streams](void*) {
    if (streams) streams->stop_metrics();
  };
  const std::unique_ptr<void, decltype(stop_metrics)> scraped(&counted, stop_metrics);

  std::vector<sse::Endpoint> listening;
  if (streams) {
    if (!options.port_file.empty()) write_port_file(options.port_file, streams->port());
    listening = streams->endpoints();
  }
  for (const sse::Endpoint& endpoint : listening)
    spdlog::info("listening on {}", shown(endpoint, options.tls.given()));
  if (options.ready) options.ready(listening);

  const int signal = wait_for_stop_signal(reloads, reason);
  const std::string why = reason.text().value_or(signal == SIGTERM ? "SIGTERM" : "SIGINT");
  const ShutdownWatch watch(options.shutdown_timeout, journal);
  if (streams) streams->begin_drain();
  if (streams && options.drain_delay.count() > 0) {
    spdlog::info("{}: not ready any more; serving for another {} ms (--drain-delay)", why,
                 options.drain_delay.count());
    std::this_thread::sleep_for(options.drain_delay);
  }
  if (streams) streams->stop_accepting();
  // All of them first: while one finishes its batch, the others must not begin another.
  for (auto& runner : runners) runner->request_stop();
  spdlog::info("{}: finishing what is in hand", why);
  // Some of the time is kept for the rest, so that slow clients and targets do not make it a
  // failure.
  const auto begun = steady_clock::now();
  const milliseconds time =
      options.shutdown_timeout - (streams ? options.drain_delay : milliseconds(0));
  if (webhooks) webhooks->begin_stop(begun + time * 3 / 4);
  for (auto& runner : runners) runner->stop();
  watchdog.stop();
  if (streams)
    streams->stop(std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(
                                                begun + time * 7 / 8 - steady_clock::now())));
  if (webhooks) webhooks->stop();
  maintenance.stop();
  listener.stop();
  spdlog::info("stopped; {} events done in {} batches, {} to be retried, {} dead",
               counters.done.load(), counters.batches.load(), counters.retried.load(),
               counters.dead.load());
  reason.rethrow();
  return 0;
}

}  // namespace spillway
