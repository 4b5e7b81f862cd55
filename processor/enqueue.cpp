#include "processor/enqueue.hpp"

#include <array>
#include <string_view>

namespace spillway {
namespace {

using nlohmann::json;

enum class Form { text, any, integer };
struct Field {
  std::string_view name;
  Form form;
};
constexpr std::array fields{Field{"type", Form::text},
                            Field{"payload", Form::any},
                            Field{"stream", Form::text},
                            Field{"stream_version", Form::integer},
                            Field{"context", Form::any},
                            Field{"correlation_id", Form::text},
                            Field{"causation_id", Form::integer},
                            Field{"idempotency_key", Form::text},
                            Field{"priority", Form::integer},
                            Field{"execute_at", Form::text},
                            Field{"max_attempts", Form::integer}};

// The order of the ids must be the order given, so the rows are numbered, and defaults are spelled
// out because a row set cannot say DEFAULT.
const Statement insert_sql{"sw_insert_events", R"(
INSERT INTO spillway.events (type, payload, stream, stream_version, context, correlation_id,
                             causation_id, idempotency_key, priority, execute_at, max_attempts)
SELECT e.type, coalesce(e.payload, '{}'), e.stream, e.stream_version, coalesce(e.context, '{}'),
       coalesce(e.correlation_id, gen_random_uuid()), e.causation_id, e.idempotency_key,
       coalesce(e.priority, 0), coalesce(e.execute_at, now()), e.max_attempts
FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS item(value, number)
CROSS JOIN LATERAL jsonb_to_record(item.value) AS e(
  type text, payload jsonb, stream text, stream_version int, context jsonb, correlation_id uuid,
  causation_id bigint, idempotency_key text, priority smallint, execute_at timestamptz,
  max_attempts smallint)
ORDER BY item.number
RETURNING id)"};

void check_event(const json& event, const std::string& where) {
  const auto complain = [&](const std::string& problem) {
    throw BadEvent(where.empty() ? problem : where + ": " + problem);
  };
  if (!event.is_object())
    complain(
        std::string(
            "an event must be an object such as {\"type\":\"CommentAdded\",\"payload\":{}}, not ") +
        event.type_name());
  const auto type = event.find("type");
  if (type == event.end() || !type->is_string() || type->get_ref<const std::string&>().empty())
    complain(
        "field \"type\" is missing or not a non-empty string, e.g. "
        "{\"type\":\"CommentAdded\",\"payload\":{}}");
  for (const auto& [name, value] : event.items()) {
    const Field* known = nullptr;
    std::string names;
    for (const Field& field : fields) {
      if (field.name == name) known = &field;
      names.append(names.empty() ? "" : ", ").append(field.name);
    }
    if (known == nullptr) complain("field \"" + name + "\" is unknown; there is " + names);
    if (value.is_null()) continue;
    if (known->form == Form::text && !value.is_string())
      complain("field \"" + name + "\" must be a string, not " + value.type_name());
    if (known->form == Form::integer && !value.is_number_integer())
      complain("field \"" + name + "\" must be an integer");
  }
}

}  // namespace

void check_events(const json& events) {
  if (!events.is_array()) return check_event(events, {});
  if (events.empty()) throw BadEvent("the array of events is empty");
  for (std::size_t i = 0; i < events.size(); ++i)
    check_event(events[i], "event " + std::to_string(i));
}

std::vector<std::int64_t> insert_events(SqlSession& session, const json& events) {
  const std::string text = events.is_array() ? events.dump() : "[" + events.dump() + "]";
  const Rows rows = session.run(insert_sql, {text.c_str()});
  std::vector<std::int64_t> ids;
  ids.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) ids.push_back(rows.integer(row, 0));
  return ids;
}

}  // namespace spillway
