#include "sse/resume.hpp"

#include <algorithm>

namespace spillway::sse {
namespace {

bool in_memory(std::uint64_t after, const MemoryWindow& memory) {
  return after >= memory.base && after <= memory.head;
}

}  // namespace

AtStart resume_at_start(const ResumePoint& from, const MemoryWindow& memory) {
  switch (from.kind) {
    case ResumePoint::Kind::none:
      return GoLive{memory.head};
    case ResumePoint::Kind::earliest:
      return ReadPage{std::nullopt, kPageLimit};
    case ResumePoint::Kind::invalid:
      break;
    case ResumePoint::Kind::at:
      if (from.id.epoch != memory.epoch) break;
      if (in_memory(from.id.position, memory)) return GoLive{from.id.position};
      // Ahead of this process: only where the database stands is of interest.
      return ReadPage{from.id.position, from.id.position > memory.head ? 1 : kPageLimit};
  }
  // A reset it will be; the page is read for its floor.
  return ReadPage{memory.head, 1};
}

GoLive resume_latest(const ResumePoint& from, const MemoryWindow& memory) {
  const bool known = from.kind == ResumePoint::Kind::at && from.id.epoch == memory.epoch;
  return GoLive{known ? std::min(from.id.position, memory.head) : memory.head};
}

OnFirstPage resume_on_first_page(const ResumePoint& from, const ReplayPage& page,
                                 const MemoryWindow& memory) {
  // The database was replaced and this process has not heard of it yet.
  if (page.head.epoch != memory.epoch) return ComeBack{};
  switch (from.kind) {
    case ResumePoint::Kind::none:
      return GoLive{memory.head};
    case ResumePoint::Kind::earliest:
      return SendPage{page.floor};
    case ResumePoint::Kind::invalid:
      return Reset{ResetReason::invalid, page.floor, memory.head};
    case ResumePoint::Kind::at:
      break;
  }
  const std::uint64_t position = from.id.position;
  if (from.id.epoch != memory.epoch) return Reset{ResetReason::epoch, page.floor, memory.head};
  if (in_memory(position, memory)) return GoLive{position};
  if (position < page.floor) return Reset{ResetReason::expired, page.floor, memory.head};
  if (position <= memory.head) return SendPage{position};
  if (position > page.head.position) return Reset{ResetReason::future, page.floor, memory.head};
  return GoLive{position};
}

OnNextPage resume_on_next_page(std::uint64_t after, const ReplayPage& page,
                               const MemoryWindow& memory) {
  if (page.head.epoch != memory.epoch) return ComeBack{};
  // Pruned between two pages: the client comes back with its id and is told so properly.
  if (after < page.floor) return ComeBack{};
  return SendPage{after};
}

OnPageSent resume_on_page_sent(std::uint64_t after, std::uint64_t upto,
                               const MemoryWindow& memory) {
  if (upto >= memory.base) return GoLive{upto};
  if (upto > after) return ReadPage{upto, kPageLimit};
  return ComeBack{};  // a database behind this process's memory: do not ask it in a loop
}

}  // namespace spillway::sse
