#include "processor/event_metrics.hpp"

namespace spillway {

void add_event_metrics(const EventCounts& counts, MetricFamilies& families) {
  const auto counter = [&](const char* name, const char* help, std::uint64_t value,
                           const MetricFamilies::Labels& labels = {}) {
    families.counter(name, help, static_cast<double>(value), labels);
  };
  for (const auto& [type, of_type] : counts.types)
    for (std::size_t i = 0; i < of_type.outcomes.size(); ++i)
      counter("spillway_events_total", "Events settled by this process, by type and outcome.",
              of_type.outcomes[i],
              {{"type", type}, {"outcome", to_string(static_cast<Outcome>(i))}});
  for (const auto& [type, of_type] : counts.types)
    families.histogram("spillway_handler_seconds", "Time of an event's handlers, by type.",
                       handler_bounds, of_type.handler_time, 1e-9, {{"type", type}});
  counter("spillway_events_held_total",
          "Looks at events that an earlier event of their stream held back.", counts.held);
  families.histogram("spillway_batch_events", "Events of a batch that took any.", batch_size_bounds,
                     counts.batch_events, 1);
  families.histogram("spillway_batch_seconds", "Time of a batch that took any events.",
                     batch_time_bounds, counts.batch_time, 1e-9);
  counter("spillway_batches_repeated_total", "Batches that were rolled back, to be done again.",
          counts.repeated);
  counter("spillway_suspect_steps_total", "Steps of the search for an event that ended a process.",
          counts.suspect_steps);
  const char* const broadcasts = "Broadcasts committed by this process, by kind.";
  counter("spillway_broadcasts_total", broadcasts, counts.broadcasts, {{"kind", "durable"}});
  counter("spillway_broadcasts_total", broadcasts, counts.ephemeral, {{"kind", "ephemeral"}});
}

}  // namespace spillway
