// Metrics as text, byte for byte; and what the tests' own reader of that text finds wrong.
#include "processor/metric_families.hpp"

#include <gtest/gtest.h>

#include <string>

#include "processor/process_metrics.hpp"
#include "tests/support/exposition.hpp"

namespace spillway {
namespace {

using test::Exposition;

constexpr std::array<std::uint64_t, 2> bounds{1'000, 2'000'000};

TEST(MetricFamilies, WritesCountersGaugesAndHistograms) {
  MetricFamilies families;
  families.counter("a_total", "Of a.", 12345678901.0, {{"x", "1"}});
  families.counter("a_total", "Of a.", 0, {{"x", "2"}});
  families.gauge("b", "Of b.", -0.5);
  sse::HistogramValues<2> values;
  values.buckets = {3, 2, 1};
  values.sum = 7'000'000;
  families.histogram("c_seconds", "Of c.", bounds, values, 1e-6);
  EXPECT_EQ(families.text(),
            "# HELP a_total Of a.\n"
            "# TYPE a_total counter\n"
            "a_total{x=\"1\"} 12345678901\n"
            "a_total{x=\"2\"} 0\n"
            "# HELP b Of b.\n"
            "# TYPE b gauge\n"
            "b -0.5\n"
            "# HELP c_seconds Of c.\n"
            "# TYPE c_seconds histogram\n"
            "c_seconds_count 6\n"
            "c_seconds_sum 7\n"
            "c_seconds_bucket{le=\"0.001\"} 3\n"
            "c_seconds_bucket{le=\"2\"} 5\n"
            "c_seconds_bucket{le=\"+Inf\"} 6\n");
  EXPECT_EQ(Exposition(families.text()).problems(), std::vector<std::string>{});
}

TEST(MetricFamilies, ALabelMayHoldAnything) {
  MetricFamilies families;
  families.counter("a_total", "Of a.", 1, {{"type", "a \"b\" \\ \n {c} é"}});
  const Exposition read(families.text());
  EXPECT_EQ(read.problems(), std::vector<std::string>{});
  EXPECT_EQ(read.value("a_total{type=\"a \"b\" \\ \n {c} é\"}"), 1);
}

TEST(MetricFamilies, TheProcessItselfIsMeasured) {
  MetricFamilies families;
  add_process_metrics(families);
  const Exposition read(families.text());
  EXPECT_EQ(read.problems(), std::vector<std::string>{});
  EXPECT_GT(read.value("process_resident_memory_bytes").value_or(0), 1e6);
  EXPECT_GT(read.value("process_virtual_memory_bytes").value_or(0), 1e6);
  EXPECT_GE(read.value("process_open_fds").value_or(0), 3);
  EXPECT_GT(read.value("process_max_fds").value_or(0), 3);
  EXPECT_GE(read.value("process_cpu_seconds_total").value_or(-1), 0);
  EXPECT_GT(read.value("process_start_time_seconds").value_or(0), 1.6e9);
}

// The reader, which other tests rely on.
TEST(Exposition, FindsWhatIsWrong) {
  const std::string good = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n";
  EXPECT_EQ(Exposition(good).problems().size(), 0u);
  for (const std::string bad : {
           "a_total 1\n",                                                        // no HELP, no TYPE
           "# HELP a_total A.\n# TYPE a_total counter\n",                        // no sample
           "# HELP a A.\n# TYPE a counter\na 1\n",                               // no _total
           "# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total 2\n",  // twice
           "# HELP a_total A.\n# TYPE a_total counter\na_total -1\n",
           "# HELP a_total A.\n# TYPE a_total counter\na_total one\n",
           "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"\\t\"} 1\n",  // no such escape
           "# HELP a_total A.\n# TYPE a_total counter\na_total 1",               // does not end
           "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\nh_sum 1\n",
           "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 2\nh_sum 1\n",
           "# HELP h H.\n# TYPE h histogram\n"
           "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n",
       })
    EXPECT_NE(Exposition(bad).problems().size(), 0u) << bad;
}

}  // namespace
}  // namespace spillway
