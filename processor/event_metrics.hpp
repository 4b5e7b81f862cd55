// The runners' counters as metrics. Pure.
#pragma once

#include "processor/event_meter.hpp"
#include "processor/metric_families.hpp"

namespace spillway {

void add_event_metrics(const EventCounts& counts, MetricFamilies& families);

}  // namespace spillway
