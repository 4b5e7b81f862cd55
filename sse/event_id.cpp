#include "sse/event_id.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace spillway::sse {
namespace {

constexpr std::size_t kEpochBytes = 16;

int rank(ResumePoint::Kind kind) {
  switch (kind) {
    case ResumePoint::Kind::none:
      return 0;
    case ResumePoint::Kind::invalid:
      return 1;
    case ResumePoint::Kind::earliest:
      return 2;
    case ResumePoint::Kind::at:
      return 3;
  }
  return 0;
}

}  // namespace

bool valid_epoch(std::string_view epoch) {
  return !epoch.empty() && epoch.size() <= kEpochBytes &&
         std::all_of(epoch.begin(), epoch.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

std::optional<EventId> parse_event_id(std::string_view text) {
  if (text.size() > kEventIdBytes) return std::nullopt;
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view epoch = text.substr(0, dash);
  const std::string_view digits = text.substr(dash + 1);
  if (!valid_epoch(epoch) || digits.empty()) return std::nullopt;
  if (digits.size() > 1 && digits.front() == '0') return std::nullopt;
  std::uint64_t position = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), position);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return EventId{std::string(epoch), position};
}

void append_event_id(std::string& out, std::string_view epoch, std::uint64_t position) {
  char digits[20];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), position).ptr;
  out.append(epoch).append(1, '-').append(std::begin(digits), end);
}

ResumePoint parse_resume_point(std::string_view text) {
  ResumePoint point;
  if (text.empty()) return point;
  if (text == "earliest") {
    point.kind = ResumePoint::Kind::earliest;
    return point;
  }
  point.requested = text;
  if (auto id = parse_event_id(text)) {
    point.kind = ResumePoint::Kind::at;
    point.id = std::move(*id);
  } else {
    point.kind = ResumePoint::Kind::invalid;
  }
  return point;
}

ResumePoint choose_resume_point(std::string_view header, std::string_view query,
                                std::string_view current_epoch, std::uint64_t head) {
  ResumePoint from_header = parse_resume_point(header);
  ResumePoint from_query = parse_resume_point(query);
  if (from_header.kind != from_query.kind)
    return rank(from_header.kind) > rank(from_query.kind) ? from_header : from_query;
  if (from_header.kind != ResumePoint::Kind::at) return from_header;
  if (from_header.id.epoch == from_query.id.epoch) {
    if (from_query.id.position <= from_header.id.position) return from_header;
    const bool never_was = from_query.id.position > head && from_header.id.position <= head;
    return never_was ? from_header : from_query;
  }
  return from_query.id.epoch == current_epoch ? from_query : from_header;
}

}  // namespace spillway::sse
