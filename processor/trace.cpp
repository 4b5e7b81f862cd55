#include "processor/trace.hpp"

#include <cstdio>
#include <set>

namespace spillway {
namespace {

using nlohmann::json;

const Statement events_sql{"sw_trace_events", R"(
WITH chain AS MATERIALIZED (
  SELECT id, type, stream, causation_id, created_at FROM spillway.events
  WHERE correlation_id = $1::uuid
), told AS (
  SELECT event_id, count(*) AS count, min(position) AS first, max(position) AS last,
         max(created_at) AS at
  FROM spillway.broadcasts WHERE event_id = ANY (ARRAY(SELECT id FROM chain)) GROUP BY event_id
)
SELECT c.id, c.type, c.stream, c.causation_id, c.created_at, s.status, s.next_attempt_at,
       s.last_error, coalesce(told.count, 0), told.first, told.last,
       1000 * extract(epoch FROM told.at - c.created_at)
FROM chain c
JOIN spillway.event_status s ON s.event_id = c.id
LEFT JOIN told ON told.event_id = c.id
ORDER BY c.id)"};

const Statement webhooks_sql{"sw_trace_webhooks", R"(
SELECT w.event_id, w.name, w.host, w.status, w.attempts, w.last_status, w.last_error,
       1000 * extract(epoch FROM w.finished_at - e.created_at)
FROM spillway.webhooks w JOIN spillway.events e ON e.id = w.event_id
WHERE w.event_id = ANY (ARRAY(SELECT id FROM spillway.events WHERE correlation_id = $1::uuid))
ORDER BY w.created_at)"};

std::optional<double> number(const Rows& rows, std::size_t row, std::size_t column) {
  if (rows.is_null(row, column)) return std::nullopt;
  return std::stod(rows.string(row, column));
}

std::string text(const Rows& rows, std::size_t row, std::size_t column) {
  return rows.is_null(row, column) ? std::string() : rows.string(row, column);
}

std::string milliseconds(double ms) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "+%.1f ms", ms);
  return buffer;
}

void append_event(std::string& lines, const TracedEvent& event, const std::string& indent) {
  lines += indent + std::to_string(event.id) + "  " + event.type;
  if (!event.stream.empty()) lines += "  stream " + event.stream;
  lines += "  " + event.status;
  if (!event.next_attempt_at.empty()) lines += " (next at " + event.next_attempt_at + ")";
  lines += "  " + event.created_at + "\n";
  const std::string inner = indent + "    ";
  if (!event.last_error.empty()) lines += inner + "error: " + event.last_error + "\n";
  if (!event.effects.empty()) {
    lines += inner + "effects:";
    for (const auto& [kind, count] : event.effects)
      lines += " " + kind + " " + std::to_string(count);
    lines += "\n";
  }
  if (!event.effects_note.empty()) lines += inner + "effects: " + event.effects_note + "\n";
  if (event.broadcasts > 0) {
    lines += inner + "broadcasts: " + std::to_string(event.broadcasts) + ", position " +
             std::to_string(event.first_position);
    if (event.last_position != event.first_position)
      lines += " to " + std::to_string(event.last_position);
    if (event.broadcast_ms) lines += ", " + milliseconds(*event.broadcast_ms);
    lines += "\n";
  }
  for (const TracedWebhook& webhook : event.webhooks) {
    lines += inner + "webhook: " + (webhook.name.empty() ? "" : webhook.name + " to ") +
             webhook.host + ", " + webhook.status + ", attempts " +
             std::to_string(webhook.attempts);
    if (webhook.last_status) lines += ", HTTP " + std::to_string(*webhook.last_status);
    if (webhook.finished_ms) lines += ", " + milliseconds(*webhook.finished_ms);
    if (!webhook.last_error.empty()) lines += ", " + webhook.last_error;
    lines += "\n";
  }
}

}  // namespace

std::vector<TracedEvent> read_trace(SqlSession& session, const std::string& correlation_id) {
  std::vector<TracedEvent> events;
  std::map<std::int64_t, std::size_t> places;
  const Rows rows = session.run(events_sql, {correlation_id.c_str()});
  for (std::size_t row = 0; row < rows.size(); ++row) {
    TracedEvent event;
    event.id = rows.integer(row, 0);
    event.type = rows.string(row, 1);
    event.stream = text(rows, row, 2);
    if (!rows.is_null(row, 3)) event.causation_id = rows.integer(row, 3);
    event.created_at = rows.string(row, 4);
    event.status = rows.string(row, 5);
    event.next_attempt_at = text(rows, row, 6);
    event.last_error = text(rows, row, 7);
    event.broadcasts = rows.integer(row, 8);
    event.first_position = rows.integer(row, 9);
    event.last_position = rows.integer(row, 10);
    event.broadcast_ms = number(rows, row, 11);
    places.emplace(event.id, events.size());
    events.push_back(std::move(event));
  }
  const Rows sent = session.run(webhooks_sql, {correlation_id.c_str()});
  for (std::size_t row = 0; row < sent.size(); ++row) {
    const auto place = places.find(sent.integer(row, 0));
    if (place == places.end()) continue;  // inserted between the two statements
    TracedWebhook webhook{sent.string(row, 1),       sent.string(row, 2), sent.string(row, 3),
                          sent.integer<int>(row, 4), std::nullopt,        text(sent, row, 6),
                          number(sent, row, 7)};
    if (!sent.is_null(row, 5)) webhook.last_status = sent.integer<int>(row, 5);
    events[place->second].webhooks.push_back(std::move(webhook));
  }
  return events;
}

std::string to_text(const std::vector<TracedEvent>& events) {
  std::multimap<std::int64_t, std::size_t> children;
  std::set<std::int64_t> known;
  for (const TracedEvent& event : events) known.insert(event.id);
  std::vector<std::pair<std::size_t, std::size_t>> open;  // place, depth; the last is next
  for (std::size_t i = events.size(); i-- > 0;) {
    const auto& cause = events[i].causation_id;
    if (cause && *cause < events[i].id && known.contains(*cause))
      children.emplace(*cause, i);
    else
      open.emplace_back(i, 0);
  }
  std::string lines;
  while (!open.empty()) {
    const auto [place, depth] = open.back();
    open.pop_back();
    append_event(lines, events[place], std::string(depth * 4, ' '));
    // They were collected from the last to the first, which is the order of a stack.
    const auto [first, end] = children.equal_range(events[place].id);
    for (auto child = first; child != end; ++child) open.emplace_back(child->second, depth + 1);
  }
  return lines;
}

json to_json(const std::vector<TracedEvent>& events) {
  const auto or_null = [](const auto& value) { return value ? json(*value) : json(nullptr); };
  json list = json::array();
  for (const TracedEvent& event : events) {
    json webhooks = json::array();
    for (const TracedWebhook& webhook : event.webhooks)
      webhooks.push_back({{"name", webhook.name},
                          {"host", webhook.host},
                          {"status", webhook.status},
                          {"attempts", webhook.attempts},
                          {"last_status", or_null(webhook.last_status)},
                          {"last_error", webhook.last_error},
                          {"finished_ms", or_null(webhook.finished_ms)}});
    json one{{"id", event.id},
             {"type", event.type},
             {"stream", event.stream},
             {"causation_id", or_null(event.causation_id)},
             {"created_at", event.created_at},
             {"status", event.status},
             {"next_attempt_at", event.next_attempt_at},
             {"last_error", event.last_error},
             {"broadcasts", event.broadcasts},
             {"broadcast_ms", or_null(event.broadcast_ms)},
             {"webhooks", std::move(webhooks)}};
    if (!event.effects.empty()) one["effects"] = event.effects;
    if (!event.effects_note.empty()) one["effects_note"] = event.effects_note;
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace spillway
