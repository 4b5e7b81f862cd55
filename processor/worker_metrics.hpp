// All that a process counts, as metrics. What is null is not there: a process without streams has
// no metrics of streams.
#pragma once

#include <cstddef>

#include "processor/metric_families.hpp"

namespace spillway::sse {
class Server;
}

namespace spillway {

class EventMeter;
class Feed;
class HttpApi;
class Journal;
class OutboxReplay;
class WebhookSender;
struct ConnectionCounters;

struct WorkerMetrics {
  const EventMeter* events = nullptr;
  const WebhookSender* webhooks = nullptr;
  const sse::Server* server = nullptr;
  const Feed* feed = nullptr;
  const OutboxReplay* replay = nullptr;
  const HttpApi* api = nullptr;
  const ConnectionCounters* connections = nullptr;
  const Journal* journal = nullptr;
  std::size_t max_connections = 0;
};

// On any thread, while all of it lives.
void collect(const WorkerMetrics& sources, MetricFamilies& families);

}  // namespace spillway
