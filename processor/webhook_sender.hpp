// Sends what spillway.webhooks holds: one thread with a connection of its own claims and settles, a
// WebhookClient sends. Batches never wait for it. At most so many requests are in flight, and few
// of one host, so that a slow target keeps nobody else waiting.
//
// At least once: a webhook whose sender died is due again when its lease runs out. wake() is
// thread-safe. start(), begin_stop() and stop() belong to one thread; stop() blocks, may be called
// twice. A database outage is waited out for ever.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "processor/log_line.hpp"
#include "processor/pg_connection.hpp"
#include "processor/retry_policy.hpp"
#include "processor/wake.hpp"
#include "processor/webhook_client.hpp"
#include "processor/webhook_store.hpp"
#include "sse/counters.hpp"

namespace spillway {

struct WebhookSenderOptions {
  PgTarget target;
  WebhookClientOptions client;
  RetryPolicy retry{8, std::chrono::seconds(5), std::chrono::hours(1)};
  std::size_t in_flight = 32;
  std::size_t per_host = 4;
  std::chrono::milliseconds lease_margin{30'000};  // beyond the client's timeout
  LogFunction log;
  // Attempts that failed; `key` says what the line is about, for a limit. Empty: they go to `log`.
  std::function<void(const std::string& key, const LogLine& line)> failed = {};
};

// What a sender counts; its thread writes.
struct WebhookCounters {
  sse::Count sent;
  sse::Count failed;  // attempts after which there is another
  sse::Count dead;
  sse::Count in_flight;  // now
};

class WebhookSender {
 public:
  explicit WebhookSender(WebhookSenderOptions options);
  ~WebhookSender();

  void start();
  // There may be something to send.
  void wake() { wake_.signal(); }
  // Nothing new is sent; what is in flight has until `deadline`, and is sent again later otherwise.
  void begin_stop(std::chrono::steady_clock::time_point deadline);
  void stop();

  [[nodiscard]] const WebhookCounters& counters() const { return counters_; }  // any thread

 private:
  struct Finished {
    ClaimedWebhook webhook;
    WebhookAnswer answer;
  };

  void run();
  void work(PgConnection& connection);
  void settle(WebhookStore& store);
  void claim(WebhookStore& store);
  void send(ClaimedWebhook webhook);
  void count(WebhookDecision::Kind kind);
  void report(const ClaimedWebhook& webhook, const WebhookDecision& decision);
  [[nodiscard]] bool is_over();
  [[nodiscard]] std::chrono::milliseconds rest();

  WebhookSenderOptions options_;
  Wake wake_;
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;
  std::vector<Finished> finished_;                  // guarded by mutex_
  std::chrono::steady_clock::time_point deadline_;  // guarded by mutex_

  // Of the thread.
  std::vector<Finished> unsettled_;
  std::map<std::string, std::size_t> in_flight_;  // by host; what is not settled counts too
  std::size_t in_flight_count_ = 0;
  WebhookCounters counters_;
  std::string last_host_;  // hosts take turns
  std::mt19937_64 random_;

  std::jthread thread_;
  WebhookClient client_;  // last: its thread uses what stands above
};

}  // namespace spillway
