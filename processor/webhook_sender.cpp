#include "processor/webhook_sender.hpp"

#include <algorithm>
#include <utility>

#include "processor/backoff.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The wake-up after a commit is a hint; this is the guarantee.
constexpr milliseconds fallback_poll{1000};

std::string describe(const ClaimedWebhook& webhook) {
  // Without the URL, which may hold a secret.
  return "webhook " + webhook.id + (webhook.name.empty() ? "" : " (" + webhook.name + ")") +
         " to " + webhook.host;
}

LogFields fields_of(const ClaimedWebhook& webhook) {
  return {{"webhook", webhook.id},
          {"event_id", webhook.event_id},
          {"correlation_id", webhook.correlation_id},
          {"attempt", webhook.attempts}};
}

}  // namespace

WebhookSender::WebhookSender(WebhookSenderOptions options)
    : options_(std::move(options)), random_(std::random_device{}()), client_(options_.client) {}

WebhookSender::~WebhookSender() {
  stop();
}

void WebhookSender::start() {
  thread_ = std::jthread([this] { run(); });
}

void WebhookSender::begin_stop(steady_clock::time_point deadline) {
  {
    const std::scoped_lock lock(mutex_);
    deadline_ = deadline;
  }
  stopping_ = true;
  wake_.signal();
}

void WebhookSender::stop() {
  if (!stopping_) begin_stop(steady_clock::now());
  if (thread_.joinable()) thread_.join();
  client_.stop();
}

bool WebhookSender::is_over() {
  if (!stopping_) return false;
  if (in_flight_count_ == 0) return true;
  const std::scoped_lock lock(mutex_);
  return steady_clock::now() >= deadline_;
}

milliseconds WebhookSender::rest() {
  if (!stopping_) return fallback_poll;
  const std::scoped_lock lock(mutex_);
  return std::clamp(std::chrono::ceil<milliseconds>(deadline_ - steady_clock::now()),
                    milliseconds(0), fallback_poll);
}

void WebhookSender::run() {
  Backoff backoff;
  bool away = false;
  while (!is_over()) {
    try {
      PgConnection connection(options_.target);
      if (std::exchange(away, false))
        options_.log({LogLevel::info, "webhooks: the database is back"});
      backoff.reset();
      work(connection);
    } catch (const std::exception& error) {  // the border: whatever it was, begin anew
      if (!std::exchange(away, true))
        options_.log(std::string("webhooks: the database is away, waiting for it: ") +
                     error.what());
      const auto until = steady_clock::now() + backoff.next();
      while (!is_over() && steady_clock::now() < until)
        wake_.wait(wake_.count(),
                   std::min(rest(), std::chrono::ceil<milliseconds>(until - steady_clock::now())));
    }
  }
}

void WebhookSender::work(PgConnection& connection) {
  WebhookStore store(connection);
  for (;;) {
    const std::uint64_t signals = wake_.count();
    settle(store);
    if (!stopping_) claim(store);
    if (is_over()) return;
    wake_.wait(signals, rest());
  }
}

// What cannot be written down now, because the database is away, is kept for the next connection.
void WebhookSender::settle(WebhookStore& store) {
  {
    const std::scoped_lock lock(mutex_);
    std::move(finished_.begin(), finished_.end(), std::back_inserter(unsettled_));
    finished_.clear();
  }
  while (!unsettled_.empty()) {
    const auto& [webhook, answer] = unsettled_.back();
    const double random = std::uniform_real_distribution<double>(0, 1)(random_);
    const WebhookDecision decision =
        decide(answer, webhook.attempts, options_.retry, random, std::chrono::system_clock::now());
    try {
      const bool taken = store.settle(webhook, answer, decision);
      if (taken) count(decision.kind);
      if (!taken)
        options_.log({LogLevel::warn,
                      describe(webhook) + ": the answer came after its lease had run out",
                      fields_of(webhook)});
      else if (decision.kind != WebhookDecision::Kind::sent)
        report(webhook, decision);
    } catch (const SqlError& error) {
      if (classify(error.sqlstate()) == FailureClass::outage) throw;
      // Nobody's fault that is known; it is sent again when its lease runs out.
      options_.log({LogLevel::warn,
                    describe(webhook) + ": its outcome was not taken: " + error.what(),
                    fields_of(webhook)});
    }
    if (const auto host = in_flight_.find(webhook.host); --host->second == 0)
      in_flight_.erase(host);
    counters_.in_flight.set(--in_flight_count_);
    unsettled_.pop_back();
  }
}

void WebhookSender::report(const ClaimedWebhook& webhook, const WebhookDecision& decision) {
  const bool dead = decision.kind == WebhookDecision::Kind::dead;
  const LogLine line(
      dead ? LogLevel::warn : LogLevel::info,
      describe(webhook) + ": attempt " + std::to_string(webhook.attempts) + " of " +
          std::to_string(options_.retry.max_attempts) + " failed, " +
          (dead ? "given up" : "next in " + std::to_string(decision.delay.count()) + " ms") + ": " +
          decision.error,
      fields_of(webhook));
  if (!options_.failed) return options_.log(line);
  options_.failed((dead ? "dead webhooks to " : "failed webhooks to ") + webhook.host, line);
}

void WebhookSender::count(WebhookDecision::Kind kind) {
  switch (kind) {
    case WebhookDecision::Kind::sent:
      return counters_.sent.add();
    case WebhookDecision::Kind::again:
      return counters_.failed.add();
    case WebhookDecision::Kind::dead:
      return counters_.dead.add();
  }
}

void WebhookSender::claim(WebhookStore& store) {
  const auto lease = options_.client.timeout + options_.lease_margin;
  // Hosts take turns: on from the last one, then from the first again.
  for (int round = 0; round < 2 && in_flight_count_ < options_.in_flight; ++round) {
    const bool from_first = last_host_.empty();
    auto claimed = store.claim(options_.in_flight - in_flight_count_, options_.per_host, in_flight_,
                               last_host_, lease);
    last_host_.clear();
    for (const ClaimedWebhook& webhook : claimed) last_host_ = std::max(last_host_, webhook.host);
    for (ClaimedWebhook& webhook : claimed) send(std::move(webhook));
    if (in_flight_count_ >= options_.in_flight || from_first) break;
    last_host_.clear();
  }
}

void WebhookSender::send(ClaimedWebhook webhook) {
  ++in_flight_[webhook.host];
  counters_.in_flight.set(++in_flight_count_);
  WebhookRequest request{webhook.url, std::move(webhook.payload), webhook.headers};
  request.headers.emplace_back("Idempotency-Key", webhook.id);
  client_.send(std::move(request), [this, webhook = std::move(webhook)](WebhookAnswer answer) {
    {
      const std::scoped_lock lock(mutex_);
      finished_.push_back({webhook, std::move(answer)});
    }
    wake_.signal();
  });
}

}  // namespace spillway
