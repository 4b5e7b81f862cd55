#include "processor/stream_metrics.hpp"

#include <string>

namespace spillway {

void add_stream_metrics(const sse::ServerCounters& counters, MetricFamilies& families) {
  const auto counter = [&](const char* name, const char* help, std::uint64_t value,
                           const MetricFamilies::Labels& labels = {}) {
    families.counter(name, help, static_cast<double>(value), labels);
  };
  const auto gauge = [&](const char* name, const char* help, std::uint64_t value,
                         const MetricFamilies::Labels& labels = {}) {
    families.gauge(name, help, static_cast<double>(value), labels);
  };
  const char* const connections = "Open connections, by kind.";
  gauge("spillway_connections", connections, counters.streams, {{"kind", "stream"}});
  gauge("spillway_connections", connections, counters.sessions, {{"kind", "request"}});
  families.gauge("spillway_tls_certificate_expiry_timestamp_seconds",
                 "When the certificate of --tls-cert ends, in seconds since 1970; 0 without TLS.",
                 static_cast<double>(counters.certificate_expires));
  counter("spillway_connections_accepted_total", "Connections accepted.",
          counters.connections_accepted);
  counter("spillway_streams_opened_total", "Streams opened.", counters.streams_opened);
  families.counters<sse::StreamEnd>("spillway_stream_ends_total", "Streams that ended, by reason.",
                                    "reason", counters.ends);
  families.counters<sse::Refusal>("spillway_refusals_total",
                                  "Connections and streams turned away, by reason.", "reason",
                                  counters.refusals);
  families.counters<sse::ResumeSource>("spillway_stream_starts_total",
                                       "Streams that began, by where they were served from.",
                                       "source", counters.resumes);
  const char* const frames = "Frames handed to sockets, by where they came from.";
  counter("spillway_frames_sent_total", frames, counters.frames, {{"source", "memory"}});
  counter("spillway_frames_sent_total", frames, counters.frames_replayed, {{"source", "database"}});
  counter("spillway_stream_sent_bytes_total", "Bytes that streams' sockets took.", counters.bytes);
  counter("spillway_stream_sends_total", "System calls that wrote to streams.", counters.sends);
  counter("spillway_stream_sends_deferred_total", "System calls that found a stream's socket full.",
          counters.deferred);
  counter("spillway_heartbeats_sent_total", "Heartbeat comments sent.", counters.heartbeats);
  families.histogram("spillway_commit_to_socket_seconds",
                     "From the COMMIT in this process to the system call that sent the frame, one "
                     "observation for each call, of its oldest frame.",
                     sse::kDeliveryBounds, counters.delivery, 1e-9);
  counter("spillway_catchup_pages_total", "Pages of old broadcasts that streams were given.",
          counters.pages_read);
  gauge("spillway_catchup_pages_waiting", "Pages that streams wait for.", counters.pages_waiting);
  gauge("spillway_stream_log_bytes", "Memory that the frames kept for resuming cost.",
        counters.log_bytes);
  gauge("spillway_stream_log_positions", "Positions that are kept in memory.",
        counters.log_positions);
  gauge("spillway_stream_parked_bytes", "Broadcasts in memory that wait for a hole to fill.",
        counters.parked_bytes);
  for (std::size_t hundreds = 1; hundreds < counters.responses.size(); ++hundreds) {
    const std::string code = std::to_string(hundreds) + "xx";
    counter("spillway_http_responses_total", "Answers to requests that are not streams.",
            counters.responses[hundreds], {{"code", code}});
  }
}

}  // namespace spillway
