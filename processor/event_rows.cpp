#include "processor/event_rows.hpp"

#include <string_view>

namespace spillway {
namespace {

json parse_or_note(std::string_view text, const char* what, std::string& problem) {
  if (text == "{}") return json::object();
  try {
    return json::parse(text);
  } catch (const json::exception&) {  // a number no double can hold
    problem = std::string(what) + " holds a number that is out of range";
    return json::object();
  }
}

}  // namespace

ClaimedEvent event_of(const Rows& rows, std::size_t row) {
  ClaimedEvent claimed;
  Event& event = claimed.event;
  event.id = rows.integer(row, 0);
  event.type = rows.string(row, 1);
  if (!rows.is_null(row, 2)) event.stream = rows.string(row, 2);
  event.payload = parse_or_note(rows.text(row, 3), "payload", claimed.problem);
  event.context = parse_or_note(rows.text(row, 4), "context", claimed.problem);
  event.correlation_id = rows.string(row, 5);
  if (!rows.is_null(row, 6)) event.causation_id = rows.integer(row, 6);
  // "2026-01-31 12:00:00.5+00" (the session's time zone is UTC) becomes ISO 8601.
  event.created_at = rows.string(row, 7);
  if (const auto space = event.created_at.find(' '); space != std::string::npos)
    event.created_at[space] = 'T';
  if (event.created_at.ends_with("+00"))
    event.created_at.replace(event.created_at.size() - 3, 3, "Z");
  if (!rows.is_null(row, 8)) claimed.max_attempts = rows.integer<int>(row, 8);
  claimed.lane = rows.integer<int>(row, event_columns);
  return claimed;
}

}  // namespace spillway
