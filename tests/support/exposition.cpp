#include "tests/support/exposition.hpp"

#include <cmath>
#include <limits>
#include <regex>

namespace spillway::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

bool is_name(const std::string& text, bool label) {
  static const std::regex metric("[a-zA-Z_:][a-zA-Z0-9_:]*");
  static const std::regex of_label("[a-zA-Z_][a-zA-Z0-9_]*");
  return std::regex_match(text, label ? of_label : metric) && !(label && text.starts_with("__"));
}

std::optional<double> number(const std::string& text) {
  if (text == "+Inf") return infinity;
  if (text == "-Inf") return -infinity;
  if (text == "NaN") return std::nan("");
  static const std::regex decimal("[-+]?[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]+)?");
  if (!std::regex_match(text, decimal)) return std::nullopt;
  return std::stod(text);
}

std::string series(const std::string& name, const std::map<std::string, std::string>& labels) {
  std::string text = name;
  for (const auto& [label, value] : labels)
    text += (text.size() == name.size() ? "{" : ",") + label + "=\"" + value + "\"";
  return labels.empty() ? text : text + "}";
}

// The family that a sample belongs to, of those of a histogram.
std::string base(const std::string& name) {
  for (const char* suffix : {"_bucket", "_count", "_sum"})
    if (name.ends_with(suffix)) return name.substr(0, name.size() - std::string(suffix).size());
  return name;
}

}  // namespace

Exposition::Exposition(std::string_view text) {
  if (!text.ends_with('\n')) problems_.emplace_back("the last line does not end");
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty()) continue;
    if (line.starts_with('#'))
      read_comment(line);
    else
      read_sample(line);
  }
  check_histograms();
  for (const auto& [name, family] : families_) {
    if (family.type.empty()) problems_.push_back(name + ": no TYPE");
    if (family.help.empty()) problems_.push_back(name + ": no HELP");
    if (family.series == 0) problems_.push_back(name + ": no sample");
    if ((family.type == "counter") != name.ends_with("_total"))
      problems_.push_back(name + ": a counter, and nothing else, ends in _total");
  }
}

std::optional<double> Exposition::value(const std::string& series) const {
  const auto found = values_.find(series);
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

double Exposition::sum(const std::string& name) const {
  double all = 0;
  for (const Sample& sample : samples_)
    if (sample.name == name) all += sample.value;
  return all;
}

void Exposition::read_comment(std::string_view line) {
  static const std::regex form("# (HELP|TYPE) ([^ ]+) (.+)");
  std::match_results<std::string_view::const_iterator> parts;
  if (!std::regex_match(line.begin(), line.end(), parts, form))
    return complain(line, "is neither HELP nor TYPE");
  const std::string name = parts[2];
  if (!is_name(name, false)) return complain(line, "is not a metric's name");
  if (name != current_) {
    if (!current_.empty()) finished_.insert(current_);
    if (finished_.contains(name)) complain(line, "comes back to a family that was over");
    current_ = name;
  }
  Family& family = families_[name];
  if (family.series > 0) complain(line, "stands behind samples");
  std::string& field = parts[1] == "HELP" ? family.help : family.type;
  if (!field.empty()) complain(line, "comes twice");
  field = parts[3];
  if (parts[1] == "TYPE" && !(field == "counter" || field == "gauge" || field == "histogram"))
    complain(line, "is a type that spillway does not use");
}

std::optional<Exposition::Sample> Exposition::sample_of(std::string_view line) {
  Sample sample;
  std::size_t at = line.find_first_of("{ ");
  if (at == std::string_view::npos) return std::nullopt;
  sample.name = line.substr(0, at);
  if (line[at] == '{') {
    ++at;
    while (at < line.size() && line[at] != '}') {
      const std::size_t sign = line.find("=\"", at);
      if (sign == std::string_view::npos) return std::nullopt;
      const std::string label(line.substr(at, sign - at));
      if (!is_name(label, true)) return std::nullopt;
      std::string value;
      for (at = sign + 2; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] != '\\') {
          value += line[at];
          continue;
        }
        if (++at == line.size()) return std::nullopt;
        const char escaped = line[at];
        if (escaped != '\\' && escaped != '"' && escaped != 'n') return std::nullopt;
        value += escaped == 'n' ? '\n' : escaped;
      }
      if (at == line.size()) return std::nullopt;
      if (!sample.labels.emplace(label, value).second) return std::nullopt;
      ++at;
      if (at < line.size() && line[at] == ',') ++at;
    }
    if (at == line.size()) return std::nullopt;
    ++at;
  }
  if (at >= line.size() || line[at] != ' ') return std::nullopt;
  const auto value = number(std::string(line.substr(at + 1)));
  if (!value) return std::nullopt;
  sample.value = *value;
  return sample;
}

void Exposition::read_sample(std::string_view line) {
  const auto sample = sample_of(line);
  if (!sample || !is_name(sample->name, false)) return complain(line, "is not a sample");
  const std::string name = families_.contains(sample->name) ? sample->name : base(sample->name);
  if (name != current_) return complain(line, "stands in the family of " + current_);
  Family& family = families_[name];
  if (family.type.empty() || family.help.empty()) complain(line, "stands before HELP or TYPE");
  if ((family.type == "histogram") != (name != sample->name))
    complain(line, "is not what a " + family.type + " has");
  if (family.type != "gauge" && !(sample->value >= 0)) complain(line, "is less than nothing");
  ++family.series;
  for (const auto& [label, value] : sample->labels)
    if (label != "le" || family.type != "histogram") family.labels.insert(label);
  if (!values_.emplace(series(sample->name, sample->labels), sample->value).second)
    complain(line, "is a series that was there before");
  samples_.push_back(*sample);
}

void Exposition::check_histograms() {
  struct Histogram {
    double bound = -infinity;
    double count = 0;
  };
  std::map<std::string, Histogram> histograms;
  for (Sample sample : samples_) {
    if (!sample.name.ends_with("_bucket") || families_[base(sample.name)].type != "histogram")
      continue;
    const auto bound = number(sample.labels["le"]);
    sample.labels.erase("le");
    Histogram& histogram = histograms[series(base(sample.name), sample.labels)];
    if (!bound || !(*bound > histogram.bound) || sample.value < histogram.count)
      problems_.push_back(series(sample.name, sample.labels) + ": buckets must ascend");
    histogram = {bound.value_or(infinity), sample.value};
  }
  for (const auto& [name, histogram] : histograms) {
    const std::size_t brace = std::min(name.find('{'), name.size());
    const std::string labels = name.substr(brace);
    const auto count = value(name.substr(0, brace) + "_count" + labels);
    if (histogram.bound != infinity || count != histogram.count)
      problems_.push_back(name + ": the last bucket is +Inf and holds all");
    if (!value(name.substr(0, brace) + "_sum" + labels)) problems_.push_back(name + ": no sum");
  }
}

void Exposition::complain(std::string_view line, const std::string& what) {
  problems_.push_back("\"" + std::string(line) + "\" " + what);
}

}  // namespace spillway::test
