// A list of metrics on its way to a scrape, and its text (Prometheus text format 0.0.4).
//
// Names and units are Prometheus': base units, `_total` for what only goes up. Values of one family
// are added one after the other. Not thread-safe; no errors.
#pragma once

#include <prometheus/metric_family.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sse/counters.hpp"

namespace spillway {

class MetricFamilies {
 public:
  using Labels = std::vector<std::pair<const char*, std::string_view>>;

  void counter(const char* name, const char* help, double value, const Labels& labels = {});
  void gauge(const char* name, const char* help, double value, const Labels& labels = {});

  // `unit`: what one step of the bounds is in the metric's unit, 1e-9 for nanoseconds.
  template <std::size_t Size>
  void histogram(const char* name, const char* help, const std::array<std::uint64_t, Size>& bounds,
                 const sse::HistogramValues<Size>& values, double unit, const Labels& labels = {}) {
    histogram(name, help, bounds, values.buckets, static_cast<double>(values.sum) * unit, unit,
              labels);
  }

  // One counter for each value of an enum that ends with `count`, by its to_string().
  template <class Enum, std::size_t Size>
  void counters(const char* name, const char* help, const char* label,
                const std::array<std::uint64_t, Size>& values) {
    for (std::size_t i = 0; i < Size; ++i)
      counter(name, help, static_cast<double>(values[i]),
              {{label, to_string(static_cast<Enum>(i))}});
  }

  [[nodiscard]] const std::vector<prometheus::MetricFamily>& list() const { return families_; }
  [[nodiscard]] std::string text() const;

 private:
  prometheus::ClientMetric& add(const char* name, const char* help, prometheus::MetricType type,
                                const Labels& labels);
  void histogram(const char* name, const char* help, std::span<const std::uint64_t> bounds,
                 std::span<const std::uint64_t> buckets, double sum, double unit,
                 const Labels& labels);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace spillway
