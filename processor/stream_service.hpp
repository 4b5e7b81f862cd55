// What a process with the role sse runs: the hub, the server with its routes, what feeds the hub,
// and the exchange of subscribers with other processes; wired together, started and stopped in
// order.
//
// One thread, that of run_worker(), which owns it; publish() and settled() from any thread until
// stop() has returned. Errors: ConfigurationError for what cannot be listened on or read.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "processor/feed.hpp"
#include "processor/http_api.hpp"
#include "processor/metrics_page.hpp"
#include "processor/outbox_replay.hpp"
#include "processor/presence_exchange.hpp"
#include "processor/wake.hpp"
#include "processor/worker.hpp"
#include "processor/worker_metrics.hpp"
#include "sse/auth_key.hpp"
#include "sse/hub.hpp"
#include "sse/server.hpp"

namespace spillway {

class Journal;
class Listener;
class Reloads;

class StreamService {
 public:
  // What it is part of; all of it outlives it.
  struct Surroundings {
    const WorkerOptions& options;
    const Listener& listener;
    Wake& outbox;    // there is something to read in the outbox
    Wake& presence;  // other processes' subscribers have changed
    Journal& journal;
    LogFunction log;
  };

  // `head`: where the line of positions stands. `keys`: null without tokens.
  StreamService(const Surroundings& around, const sse::Head& head,
                std::shared_ptr<sse::KeyRing> keys, Reloads& reloads);
  StreamService(const StreamService&) = delete;
  StreamService& operator=(const StreamService&) = delete;

  void listen();  // streams are served from here on
  void follow();  // what other processes commit arrives as well
  // Adds its own to `sources`, which must live until stop_metrics() or stop().
  void serve_metrics(WorkerMetrics sources);
  void stop_metrics() { metrics_.stop(); }

  void publish(sse::BroadcastBatch batch) { hub_.publish(std::move(batch)); }
  void settled() { api_.settled(); }  // a batch of this process was committed
  [[nodiscard]] std::vector<sse::Endpoint> endpoints() const { return server_.endpoints(); }
  [[nodiscard]] std::uint16_t port() const { return server_.port(); }

  void begin_drain() { api_.begin_drain(); }  // not ready any more
  void stop_accepting() { server_.stop_accepting(); }
  // Ends the streams, in order until `deadline`. Runners must have stopped; may be called twice.
  void stop(std::chrono::milliseconds deadline);

 private:
  // Destroyed in the opposite order: what uses comes after what is used.
  sse::Hub hub_;
  OutboxReplay replay_;
  HttpApi api_;
  MetricsPage metrics_;
  sse::Server server_;
  Feed feed_;
  PresenceExchange exchange_;
};

}  // namespace spillway
