// The streams' counters as metrics. Pure.
#pragma once

#include "processor/metric_families.hpp"
#include "sse/counters.hpp"

namespace spillway {

void add_stream_metrics(const sse::ServerCounters& counters, MetricFamilies& families);

}  // namespace spillway
