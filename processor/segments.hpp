// Where a batch must be cut: an event that reads must see every effect of earlier events of its
// stream, also those of the same batch. So the effects before it are applied first, but only where
// an earlier event of its stream stands in the same segment. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace spillway {

struct SegmentInput {
  std::optional<std::string_view> stream;
  bool reads = false;
};

// [begin, end) of each segment, in order; one when nothing needs a cut.
inline std::vector<std::pair<std::size_t, std::size_t>> segments_of(
    const std::vector<SegmentInput>& events) {
  std::vector<std::pair<std::size_t, std::size_t>> segments;
  std::unordered_set<std::string_view> touched;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const SegmentInput& event = events[i];
    if (event.reads && event.stream && touched.contains(*event.stream)) {
      segments.emplace_back(begin, i);
      touched.clear();
      begin = i;
    }
    if (event.stream) touched.insert(*event.stream);
  }
  if (begin < events.size()) segments.emplace_back(begin, events.size());
  return segments;
}

}  // namespace spillway
