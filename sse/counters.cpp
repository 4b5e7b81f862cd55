#include "sse/counters.hpp"

#include <algorithm>

namespace spillway::sse {
namespace {

template <class Enum>
void add_all(std::array<std::uint64_t, CountBy<Enum>::size>& sums, const CountBy<Enum>& counts) {
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += counts.value(static_cast<Enum>(i));
}

}  // namespace

std::string_view to_string(StreamEnd end) {
  switch (end) {
    case StreamEnd::closed:
      return "closed";
    case StreamEnd::lagged:
      return "lagged";
    case StreamEnd::blocked:
      return "blocked";
    case StreamEnd::expired:
      return "expired";
    case StreamEnd::unavailable:
      return "unavailable";
    case StreamEnd::restarted:
      return "restarted";
    case StreamEnd::shutdown:
      return "shutdown";
    case StreamEnd::error:
    case StreamEnd::count:
      break;
  }
  return "error";
}

std::string_view to_string(Refusal refusal) {
  switch (refusal) {
    case Refusal::connections:
      return "connections";
    case Refusal::reserve:
      return "reserve";
    case Refusal::address:
      return "address";
    case Refusal::channel:
      return "channel";
    case Refusal::unauthorized:
      return "unauthorized";
    case Refusal::forbidden:
      return "forbidden";
    case Refusal::not_ready:
    case Refusal::count:
      break;
  }
  return "not_ready";
}

std::string_view to_string(ResumeSource source) {
  switch (source) {
    case ResumeSource::fresh:
      return "fresh";
    case ResumeSource::memory:
      return "memory";
    case ResumeSource::database:
      return "database";
    case ResumeSource::reset_expired:
      return "reset_expired";
    case ResumeSource::reset_epoch:
      return "reset_epoch";
    case ResumeSource::reset_future:
      return "reset_future";
    case ResumeSource::reset_invalid:
      return "reset_invalid";
    case ResumeSource::unavailable:
    case ResumeSource::count:
      break;
  }
  return "unavailable";
}

void ServerCounters::add(const ShardCounters& shard) {
  sessions += shard.sessions.value();
  streams_opened += shard.streams_opened.value();
  sends += shard.sends.value();
  deferred += shard.deferred.value();
  frames += shard.frames.value();
  frames_replayed += shard.frames_replayed.value();
  bytes += shard.bytes.value();
  heartbeats += shard.heartbeats.value();
  // In this order: an answer that comes in between must not make less than none waiting.
  const std::uint64_t answered = shard.pages_answered.value();
  pages_read += answered;
  pages_waiting += std::max(shard.pages_asked.value(), answered) - answered;
  pages_waiting += shard.pages_queued.value();
  log_bytes = std::max(log_bytes, shard.log_bytes.value());
  const std::uint64_t base = shard.log_base.value();
  log_positions = std::max(log_positions, std::max(shard.log_end.value(), base) - base);
  delivery += shard.delivery.values();
  add_all(ends, shard.ends);
  add_all(refusals, shard.refusals);
  add_all(resumes, shard.resumes);
  for (std::size_t i = 0; i < responses.size(); ++i) responses[i] += shard.responses[i].value();
}

}  // namespace spillway::sse
