#include "processor/metric_families.hpp"

#include <prometheus/text_serializer.h>

namespace spillway {

using prometheus::ClientMetric;
using prometheus::MetricType;

void MetricFamilies::counter(const char* name, const char* help, double value,
                             const Labels& labels) {
  add(name, help, MetricType::Counter, labels).counter.value = value;
}

void MetricFamilies::gauge(const char* name, const char* help, double value, const Labels& labels) {
  add(name, help, MetricType::Gauge, labels).gauge.value = value;
}

void MetricFamilies::histogram(const char* name, const char* help,
                               std::span<const std::uint64_t> bounds,
                               std::span<const std::uint64_t> buckets, double sum, double unit,
                               const Labels& labels) {
  ClientMetric::Histogram& histogram = add(name, help, MetricType::Histogram, labels).histogram;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    histogram.sample_count += buckets[i];
    // The last one, without a bound, is everything; the serializer adds it.
    if (i < bounds.size())
      histogram.bucket.push_back({histogram.sample_count, static_cast<double>(bounds[i]) * unit});
  }
  histogram.sample_sum = sum;
}

ClientMetric& MetricFamilies::add(const char* name, const char* help, MetricType type,
                                  const Labels& labels) {
  if (families_.empty() || families_.back().name != name)
    families_.push_back({name, help, type, {}});
  ClientMetric& metric = families_.back().metric.emplace_back();
  for (const auto& [label, value] : labels) metric.label.push_back({label, std::string(value)});
  return metric;
}

std::string MetricFamilies::text() const {
  return prometheus::TextSerializer().Serialize(families_);
}

}  // namespace spillway
