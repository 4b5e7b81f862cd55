// The process itself, under the names that every Prometheus client uses: CPU, memory, descriptors,
// start. Read from /proc each time; what cannot be read is left out.
#pragma once

#include "processor/metric_families.hpp"

namespace spillway {

void add_process_metrics(MetricFamilies& families);

}  // namespace spillway
