#include "processor/event_meter.hpp"

namespace spillway {

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::unhandled:
      return "unhandled";
    case Outcome::discarded:
      return "discarded";
    case Outcome::retried:
      return "retried";
    case Outcome::dead:
      return "dead";
    case Outcome::done:
    case Outcome::count:
      break;
  }
  return "done";
}

std::uint64_t EventCounts::outcome(Outcome which) const {
  std::uint64_t all = 0;
  for (const auto& [type, counts] : types) all += counts.outcomes[static_cast<std::size_t>(which)];
  return all;
}

TypeMeter& RunnerMeter::of(const std::string& type, bool named) {
  const std::string name = all_.admit(type, named);
  const std::scoped_lock lock(mutex_);
  auto& meter = types_[name];
  if (!meter) meter = std::make_unique<TypeMeter>();
  return *meter;
}

RunnerMeter& EventMeter::add_runner() {
  const std::scoped_lock lock(mutex_);
  runners_.push_back(std::make_unique<RunnerMeter>(*this));
  return *runners_.back();
}

std::string EventMeter::admit(const std::string& type, bool named) {
  if (type.size() > longest_name) return other;
  const std::scoped_lock lock(mutex_);
  if (named_.contains(type) || unnamed_.contains(type)) return type;
  auto& names = named ? named_ : unnamed_;
  if (names.size() >= (named ? most_named : most_unnamed)) return other;
  names.insert(type);
  return type;
}

EventCounts EventMeter::snapshot() const {
  EventCounts sum;
  const std::scoped_lock lock(mutex_);
  for (const auto& runner : runners_) {
    sum.held += runner->held.value();
    sum.repeated += runner->repeated.value();
    sum.suspect_steps += runner->suspect_steps.value();
    sum.broadcasts += runner->broadcasts.value();
    sum.ephemeral += runner->ephemeral.value();
    for (std::size_t i = 0; i < sum.wakes.size(); ++i)
      sum.wakes[i] += runner->wakes.value(static_cast<Woken>(i));
    sum.batch_events += runner->batch_events.values();
    sum.batch_time += runner->batch_time.values();
    const std::scoped_lock types_lock(runner->mutex_);
    for (const auto& [type, meter] : runner->types_) {
      auto& counts = sum.types[type];
      for (std::size_t i = 0; i < counts.outcomes.size(); ++i)
        counts.outcomes[i] += meter->outcomes.value(static_cast<Outcome>(i));
      counts.handler_time += meter->handler_time.values();
    }
  }
  return sum;
}

}  // namespace spillway
