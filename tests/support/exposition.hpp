// Prometheus' text format 0.0.4, read strictly: for tests of what a scrape gives.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::test {

class Exposition {
 public:
  explicit Exposition(std::string_view text);

  // What is wrong with the text, line by line; empty for a good one.
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

  // Of a series as it is written: `name` or `name{label="value",…}`, labels in alphabetical order.
  [[nodiscard]] std::optional<double> value(const std::string& series) const;
  // The sum over a metric's series.
  [[nodiscard]] double sum(const std::string& name) const;

  struct Family {
    std::string type;
    std::string help;
    std::set<std::string> labels;  // without a histogram's `le`
    std::size_t series = 0;
  };
  [[nodiscard]] const std::map<std::string, Family>& families() const { return families_; }

 private:
  struct Sample {
    std::string name;
    std::map<std::string, std::string> labels;
    double value = 0;
  };

  void read_comment(std::string_view line);
  void read_sample(std::string_view line);
  [[nodiscard]] std::optional<Sample> sample_of(std::string_view line);
  void check_histograms();
  void complain(std::string_view line, const std::string& what);

  std::map<std::string, Family> families_;
  std::map<std::string, double> values_;
  std::vector<Sample> samples_;
  std::set<std::string> finished_;  // families behind which another has begun
  std::string current_;
  std::vector<std::string> problems_;
};

}  // namespace spillway::test
