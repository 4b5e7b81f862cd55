#include "processor/event_json.hpp"

#include <stdexcept>

namespace spillway {

json to_json(const Event& event) {
  return {{"id", event.id},
          {"type", event.type},
          {"stream", event.stream ? json(*event.stream) : json(nullptr)},
          {"payload", event.payload},
          {"context", event.context},
          {"correlation_id", event.correlation_id},
          {"causation_id", event.causation_id ? json(*event.causation_id) : json(nullptr)},
          {"attempt", event.attempt},
          {"created_at", event.created_at}};
}

Event event_from_json(const json& value) {
  if (!value.is_object()) throw std::invalid_argument("an event must be an object");
  Event event;
  event.id = 1;
  event.payload = json::object();
  event.context = json::object();
  event.correlation_id = "00000000-0000-0000-0000-000000000000";
  event.created_at = "2000-01-01T00:00:00Z";
  for (const auto& [key, member] : value.items()) {
    const auto want = [&, name = key](bool right, const char* what) {
      if (!right) throw std::invalid_argument("the event's \"" + name + "\" must be " + what);
    };
    if (key == "type") {
      want(member.is_string() && !member.get_ref<const std::string&>().empty(),
           "a string, not an empty one");
      event.type = member.get<std::string>();
    } else if (key == "payload") {
      event.payload = member;
    } else if (key == "context") {
      event.context = member;
    } else if (key == "data") {
      want(member.is_array(), "an array of rows");
      event.data = member;
    } else if (key == "id") {
      want(member.is_number_integer(), "a whole number");
      event.id = member.get<std::int64_t>();
    } else if (key == "attempt") {
      want(member.is_number_integer(), "a whole number");
      event.attempt = member.get<int>();
    } else if (key == "correlation_id") {
      want(member.is_string(), "a string");
      event.correlation_id = member.get<std::string>();
    } else if (key == "created_at") {
      want(member.is_string(), "a string");
      event.created_at = member.get<std::string>();
    } else if (key == "stream") {
      want(member.is_string() || member.is_null(), "a string or null");
      if (member.is_string()) event.stream = member.get<std::string>();
    } else if (key == "causation_id") {
      want(member.is_number_integer() || member.is_null(), "a whole number or null");
      if (!member.is_null()) event.causation_id = member.get<std::int64_t>();
    } else {
      throw std::invalid_argument(
          "the event's key \"" + key +
          "\" is unknown; there is type, payload, context, data, id, attempt, correlation_id, "
          "causation_id, created_at, stream");
    }
  }
  if (event.type.empty()) throw std::invalid_argument("the event's \"type\" is missing");
  return event;
}

}  // namespace spillway
