// Event ids as clients send them back: `<epoch>-<position>`, and where a client wants to resume.
//
// An epoch is 1 to 16 characters [a-z0-9], a position a decimal number without leading zeros that
// fits 64 bits; the whole is at most 40 ASCII characters. Pure functions and plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spillway::sse {

inline constexpr std::size_t kEventIdBytes = 40;

struct EventId {
  std::string epoch;
  std::uint64_t position = 0;

  bool operator==(const EventId&) const = default;
};

[[nodiscard]] bool valid_epoch(std::string_view epoch);
[[nodiscard]] std::optional<EventId> parse_event_id(std::string_view text);
void append_event_id(std::string& out, std::string_view epoch, std::uint64_t position);

struct ResumePoint {
  enum class Kind { none, earliest, at, invalid };
  Kind kind = Kind::none;
  EventId id;             // when `at`
  std::string requested;  // as sent, for `at` and `invalid`

  bool operator==(const ResumePoint&) const = default;
};

// One value, as a client sent it. Absent and empty are the same: no resume.
[[nodiscard]] ResumePoint parse_resume_point(std::string_view text);

// The later of the `Last-Event-ID` header and the `last_event_id` query, because a query stays as
// the page wrote it while the header moves on:
// - two ids of one epoch: the larger position, unless it is the query's and lies after `head`: what
//   was reset once because of it would be reset at each return; of two epochs: the one of
//   `current_epoch`, else the header;
// - an id beats `earliest`, which beats what is not an id, which beats nothing;
// - two that are not ids: the header's.
[[nodiscard]] ResumePoint choose_resume_point(std::string_view header, std::string_view query,
                                              std::string_view current_epoch, std::uint64_t head);

}  // namespace spillway::sse
