#include "processor/worker_metrics.hpp"

#include <array>

#include "processor/event_metrics.hpp"
#include "processor/feed.hpp"
#include "processor/http_api.hpp"
#include "processor/journal.hpp"
#include "processor/outbox_replay.hpp"
#include "processor/process_metrics.hpp"
#include "processor/stream_metrics.hpp"
#include "processor/webhook_sender.hpp"
#include "spillway/version.hpp"
#include "sse/server.hpp"

namespace spillway {
namespace {

void add_webhook_metrics(const WebhookCounters& counters, MetricFamilies& families) {
  const auto attempts = [&](const char* outcome, const sse::Count& count) {
    families.counter("spillway_webhook_attempts_total",
                     "Attempts to send a webhook, by what came of them.",
                     static_cast<double>(count.value()), {{"outcome", outcome}});
  };
  attempts("sent", counters.sent);
  attempts("failed", counters.failed);
  attempts("dead", counters.dead);
  families.gauge("spillway_webhooks_in_flight", "Webhooks that are being sent.",
                 static_cast<double>(counters.in_flight.value()));
}

void add_wakes(const char* who, const std::array<std::uint64_t, sse::CountBy<Woken>::size>& wakes,
               MetricFamilies& families) {
  for (std::size_t i = 0; i < wakes.size(); ++i)
    families.counter("spillway_wakes_total",
                     "Ends of a sleep, by who slept and what ended it: NOTIFY, this process, or "
                     "the poll that is there for when neither came.",
                     static_cast<double>(wakes[i]),
                     {{"who", who}, {"source", to_string(static_cast<Woken>(i))}});
}

}  // namespace

void collect(const WorkerMetrics& sources, MetricFamilies& families) {
  families.gauge("spillway_build_info", "Always 1; the version is a label.", 1,
                 {{"version", SPILLWAY_VERSION}});
  add_process_metrics(families);
  if (sources.journal != nullptr)
    families.counter("spillway_log_lines_lost_total",
                     "Lines of the log that were not written, because stderr was not read.",
                     static_cast<double>(sources.journal->lost()));
  if (sources.events != nullptr) {
    const EventCounts counts = sources.events->snapshot();
    add_event_metrics(counts, families);
    add_wakes("runner", counts.wakes, families);
  }
  if (sources.feed != nullptr) {
    std::array<std::uint64_t, sse::CountBy<Woken>::size> wakes{};
    for (std::size_t i = 0; i < wakes.size(); ++i)
      wakes[i] = sources.feed->wakes().value(static_cast<Woken>(i));
    add_wakes("feed", wakes, families);
  }
  if (sources.webhooks != nullptr) add_webhook_metrics(sources.webhooks->counters(), families);
  if (sources.server != nullptr) {
    add_stream_metrics(sources.server->counters(), families);
    families.gauge("spillway_connections_max", "Connections that may be open (--max-connections).",
                   static_cast<double>(sources.max_connections));
  }
  const auto waiting = [&](const char* pool, std::size_t jobs) {
    families.gauge("spillway_database_jobs_waiting",
                   "Requests that wait for a connection to the database, by pool.",
                   static_cast<double>(jobs), {{"pool", pool}});
  };
  if (sources.api != nullptr) waiting("requests", sources.api->waiting());
  if (sources.replay != nullptr) waiting("replay", sources.replay->waiting());
  if (sources.connections != nullptr) {
    const auto attempts = [&](const char* result, const std::atomic<std::uint64_t>& count) {
      families.counter("spillway_database_connects_total",
                       "Connections to the database that were tried, by result.",
                       static_cast<double>(count.load()), {{"result", result}});
    };
    attempts("made", sources.connections->made);
    attempts("failed", sources.connections->failed);
  }
}

}  // namespace spillway
