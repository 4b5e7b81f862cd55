#include "effects/effect_json.hpp"

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>

#include "effects/effect_error.hpp"

namespace spillway {
namespace {

std::string article(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
    case json::value_t::number_float:
      return "a number";
    case json::value_t::binary:
    case json::value_t::discarded:
      break;
  }
  return "nothing";
}

std::string quoted_list(std::initializer_list<std::string_view> names) {
  std::string text;
  for (const auto name : names) {
    if (!text.empty()) text += ", ";
    text.append(name);
  }
  return text;
}

// The fields of one effect, with errors that say where they stand.
class Fields {
 public:
  Fields(std::size_t index, std::string_view kind, const json& fields,
         std::initializer_list<std::string_view> known)
      : index_(index), kind_(kind), fields_(fields) {
    if (!fields.is_object())
      throw EffectError(
          index, kind, "",
          "must be an object with " + quoted_list(known) + ", not " + article(fields));
    for (const auto& [name, value] : fields.items()) {
      bool found = false;
      for (const auto candidate : known) found = found || candidate == name;
      if (!found)
        throw EffectError(index, kind, name, "is unknown; there is " + quoted_list(known));
    }
  }

  const json& required(const char* name) const {
    const auto it = fields_.find(name);
    if (it == fields_.end()) throw EffectError(index_, kind_, name, "is missing");
    return *it;
  }

  std::string text(const char* name) const {
    const json& value = required(name);
    if (!value.is_string())
      throw EffectError(index_, kind_, name, "must be a string, not " + article(value));
    return value.get<std::string>();
  }

  bool flag(const char* name, bool otherwise) const {
    const auto it = fields_.find(name);
    if (it == fields_.end()) return otherwise;
    if (!it->is_boolean())
      throw EffectError(index_, kind_, name, "must be true or false, not " + article(*it));
    return it->get<bool>();
  }

  std::optional<std::string> text_if_there(const char* name) const {
    const json* value = find(name);
    if (value == nullptr || value->is_null()) return std::nullopt;
    return text(name);
  }

  std::optional<double> number(const char* name) const {
    const json* value = find(name);
    if (value == nullptr || value->is_null()) return std::nullopt;
    if (!value->is_number())
      throw EffectError(index_, kind_, name, "must be a number, not " + article(*value));
    return value->get<double>();
  }

  const json* find(const char* name) const {
    const auto it = fields_.find(name);
    return it == fields_.end() ? nullptr : &*it;
  }

  [[noreturn]] void fail(const char* name, const std::string& problem) const {
    throw EffectError(index_, kind_, name, problem);
  }

 private:
  std::size_t index_;
  std::string_view kind_;
  const json& fields_;
};

Effect insert_from(std::size_t index, const json& value) {
  const Fields fields(index, "Insert", value, {"table", "data", "on_conflict"});
  Insert insert{fields.text("table"), fields.required("data")};
  if (fields.find("on_conflict") != nullptr) {
    const std::string word = fields.text("on_conflict");
    if (word == "ignore")
      insert.on_conflict = OnConflict::ignore;
    else if (word != "error")
      fields.fail("on_conflict", R"(must be "error" or "ignore", not ")" + word + "\"");
  }
  return insert;
}

Effect upsert_from(std::size_t index, const json& value) {
  const Fields fields(index, "Upsert", value, {"table", "data", "key"});
  Upsert upsert{fields.text("table"), fields.required("data"), {}};
  const json& key = fields.required("key");
  if (!key.is_array() || key.empty())
    fields.fail("key", "must be a list of column names, not " +
                           (key.is_array() ? "an empty one" : article(key)));
  for (const json& column : key) {
    if (!column.is_string()) fields.fail("key", "must hold column names, not " + article(column));
    upsert.key.push_back(column.get<std::string>());
  }
  return upsert;
}

Effect update_from(std::size_t index, const json& value) {
  const Fields fields(index, "Update", value, {"table", "set", "where"});
  return Update{fields.text("table"), fields.required("set"), fields.required("where")};
}

Effect delete_from(std::size_t index, const json& value) {
  const Fields fields(index, "Delete", value, {"table", "where"});
  return Delete{fields.text("table"), fields.required("where")};
}

Effect broadcast_from(std::size_t index, const json& value) {
  const Fields fields(index, "SSEBroadcast", value, {"channel", "event_type", "data", "ephemeral"});
  return SSEBroadcast{fields.text("channel"), fields.text("event_type"), fields.required("data"),
                      fields.flag("ephemeral", false)};
}

Effect schedule_from(std::size_t index, const json& value) {
  const Fields fields(index, "ScheduleEvent", value,
                      {"event_type", "payload", "delay_seconds", "delay_minutes", "execute_at",
                       "stream", "idempotency_key"});
  ScheduleEvent event{fields.text("event_type"), fields.required("payload")};
  event.delay_seconds = fields.number("delay_seconds");
  event.delay_minutes = fields.number("delay_minutes");
  event.execute_at = fields.text_if_there("execute_at");
  event.stream = fields.text_if_there("stream");
  event.idempotency_key = fields.text_if_there("idempotency_key");
  return event;
}

Effect webhook_from(std::size_t index, const json& value) {
  const Fields fields(index, "TriggerWebhook", value, {"url", "payload", "headers", "name"});
  TriggerWebhook webhook{fields.text("url"), fields.required("payload")};
  if (const json* headers = fields.find("headers")) {
    if (!headers->is_object())
      fields.fail("headers", "must be an object of strings, not " + article(*headers));
    for (const auto& [name, text] : headers->items()) {
      if (!text.is_string())
        fields.fail("headers", "\"" + name + "\" must be a string, not " + article(text));
      webhook.headers.emplace(name, text.get<std::string>());
    }
  }
  webhook.name = fields.text_if_there("name").value_or("");
  return webhook;
}

Effect kv_set_from(std::size_t index, const json& value) {
  const Fields fields(index, "KVSet", value, {"key", "value", "ttl_seconds"});
  return KVSet{fields.text("key"), fields.required("value"), fields.number("ttl_seconds")};
}

Effect kv_delete_from(std::size_t index, const json& value) {
  const Fields fields(index, "KVDelete", value, {"key"});
  return KVDelete{fields.text("key")};
}

Effect log_from(std::size_t index, const json& value) {
  const Fields fields(index, "Log", value, {"level", "message", "fields"});
  Log log{fields.text("level"), fields.text("message")};
  if (const json* members = fields.find("fields")) log.fields = *members;
  return log;
}

struct Kind {
  std::string_view name;
  Effect (*from)(std::size_t index, const json& value);
};
constexpr std::array kinds{
    Kind{"Insert", insert_from},          Kind{"Upsert", upsert_from},
    Kind{"Update", update_from},          Kind{"Delete", delete_from},
    Kind{"SSEBroadcast", broadcast_from}, Kind{"ScheduleEvent", schedule_from},
    Kind{"TriggerWebhook", webhook_from}, Kind{"KVSet", kv_set_from},
    Kind{"KVDelete", kv_delete_from},     Kind{"Log", log_from}};

// The fields of each kind; those at their default are left out.
struct FieldsOf {
  json operator()(const Insert& effect) const {
    json fields{{"table", effect.table}, {"data", effect.data}};
    if (effect.on_conflict == OnConflict::ignore) fields["on_conflict"] = "ignore";
    return fields;
  }
  json operator()(const Upsert& effect) const {
    return {{"table", effect.table}, {"data", effect.data}, {"key", effect.key}};
  }
  json operator()(const Update& effect) const {
    return {{"table", effect.table}, {"set", effect.set}, {"where", effect.where}};
  }
  json operator()(const Delete& effect) const {
    return {{"table", effect.table}, {"where", effect.where}};
  }
  json operator()(const SSEBroadcast& effect) const {
    json fields{
        {"channel", effect.channel}, {"event_type", effect.event_type}, {"data", effect.data}};
    if (effect.ephemeral) fields["ephemeral"] = true;
    return fields;
  }
  json operator()(const ScheduleEvent& effect) const {
    json fields{{"event_type", effect.event_type}, {"payload", effect.payload}};
    const auto add = [&](const char* name, const auto& value) {
      if (value) fields[name] = *value;
    };
    add("delay_seconds", effect.delay_seconds);
    add("delay_minutes", effect.delay_minutes);
    add("execute_at", effect.execute_at);
    add("stream", effect.stream);
    add("idempotency_key", effect.idempotency_key);
    return fields;
  }
  json operator()(const TriggerWebhook& effect) const {
    json fields{{"url", effect.url}, {"payload", effect.payload}};
    if (!effect.headers.empty()) fields["headers"] = effect.headers;
    if (!effect.name.empty()) fields["name"] = effect.name;
    return fields;
  }
  json operator()(const KVSet& effect) const {
    json fields{{"key", effect.key}, {"value", effect.value}};
    if (effect.ttl_seconds) fields["ttl_seconds"] = *effect.ttl_seconds;
    return fields;
  }
  json operator()(const KVDelete& effect) const { return {{"key", effect.key}}; }
  json operator()(const Log& effect) const {
    json fields{{"level", effect.level}, {"message", effect.message}};
    if (!effect.fields.empty()) fields["fields"] = effect.fields;
    return fields;
  }
};

}  // namespace

Effects effects_from_json(const json& list) {
  if (!list.is_array())
    throw EffectError("effects must be an array of effects, not " + article(list));
  Effects effects;
  effects.reserve(list.size());
  for (std::size_t index = 0; index < list.size(); ++index) {
    const json& item = list[index];
    if (!item.is_object() || item.size() != 1)
      throw EffectError(index, "", "",
                        item.is_object()
                            ? "must have one key, the kind, e.g. {\"Insert\":{…}}; it has " +
                                  std::to_string(item.size())
                            : "must be an object such as {\"Insert\":{…}}, not " + article(item));
    const auto& name = item.begin().key();
    const Kind* found = nullptr;
    std::string known;
    for (const Kind& kind : kinds) {
      if (kind.name == name) found = &kind;
      known.append(known.empty() ? "" : ", ").append(kind.name);
    }
    if (found == nullptr)
      throw EffectError(index, "", "", "unknown kind \"" + name + "\"; there is " + known);
    effects.push_back(found->from(index, item.begin().value()));
  }
  return effects;
}

json to_json(const Effect& effect) {
  return json{{std::string(kind_of(effect)), std::visit(FieldsOf{}, effect)}};
}

json to_json(const Effects& effects) {
  json list = json::array();
  for (const Effect& effect : effects) list.push_back(to_json(effect));
  return list;
}

std::string_view kind_of(const Effect& effect) {
  struct Name {
    std::string_view operator()(const Insert&) const { return "Insert"; }
    std::string_view operator()(const Upsert&) const { return "Upsert"; }
    std::string_view operator()(const Update&) const { return "Update"; }
    std::string_view operator()(const Delete&) const { return "Delete"; }
    std::string_view operator()(const SSEBroadcast&) const { return "SSEBroadcast"; }
    std::string_view operator()(const ScheduleEvent&) const { return "ScheduleEvent"; }
    std::string_view operator()(const TriggerWebhook&) const { return "TriggerWebhook"; }
    std::string_view operator()(const KVSet&) const { return "KVSet"; }
    std::string_view operator()(const KVDelete&) const { return "KVDelete"; }
    std::string_view operator()(const Log&) const { return "Log"; }
  };
  return std::visit(Name{}, effect);
}

}  // namespace spillway
