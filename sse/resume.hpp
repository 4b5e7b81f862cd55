// What a stream does to start or resume: `initial → catching up → live`, as pure functions over
// what the client asked for, what is in memory and what a page of the database says.
//
// Positions are dense, so "everything after N" needs no more than N: memory can take over from the
// database wherever memory begins at or before the last position read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "sse/event_id.hpp"
#include "sse/frame.hpp"
#include "sse/replay_source.hpp"

namespace spillway::sse {

// The positions base < p <= head are in this process's memory.
struct MemoryWindow {
  std::string epoch;
  std::uint64_t base = 0;
  std::uint64_t head = 0;
};

struct GoLive {  // from memory: all after `after`, which may still be ahead of this process
  std::uint64_t after = 0;
  bool operator==(const GoLive&) const = default;
};
struct ReadPage {
  std::optional<std::uint64_t> after;
  std::size_t limit = 0;
  bool operator==(const ReadPage&) const = default;
};
struct SendPage {  // the page continues `after`
  std::uint64_t after = 0;
  bool operator==(const SendPage&) const = default;
};
struct Reset {  // then live from `head`
  ResetReason reason = ResetReason::invalid;
  std::uint64_t floor = 0;
  std::uint64_t head = 0;
  bool operator==(const Reset&) const = default;
};
struct ComeBack {  // it cannot be served now
  bool operator==(const ComeBack&) const = default;
};

inline constexpr std::size_t kPageLimit = 500;

using AtStart = std::variant<GoLive, ReadPage>;
[[nodiscard]] AtStart resume_at_start(const ResumePoint& from, const MemoryWindow& memory);

// The same where all channels are latest channels: there is nothing to replay, so nothing can be
// lost, and an id that means nothing here needs no reset either.
[[nodiscard]] GoLive resume_latest(const ResumePoint& from, const MemoryWindow& memory);

// Only the first page can lead to a reset: what is answered depends on it.
using OnFirstPage = std::variant<GoLive, SendPage, Reset, ComeBack>;
[[nodiscard]] OnFirstPage resume_on_first_page(const ResumePoint& from, const ReplayPage& page,
                                               const MemoryWindow& memory);

// A later page; `after` is where the last one ended.
using OnNextPage = std::variant<SendPage, ComeBack>;
[[nodiscard]] OnNextPage resume_on_next_page(std::uint64_t after, const ReplayPage& page,
                                             const MemoryWindow& memory);

// A page that began after `after` and is complete up to `upto` has been sent.
using OnPageSent = std::variant<GoLive, ReadPage, ComeBack>;
[[nodiscard]] OnPageSent resume_on_page_sent(std::uint64_t after, std::uint64_t upto,
                                             const MemoryWindow& memory);

}  // namespace spillway::sse
