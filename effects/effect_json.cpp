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

Effect broadcast_from(std::size_t index, const json& value) {
  const Fields fields(index, "SSEBroadcast", value, {"channel", "event_type", "data", "ephemeral"});
  return SSEBroadcast{fields.text("channel"), fields.text("event_type"), fields.required("data"),
                      fields.flag("ephemeral", false)};
}

struct Kind {
  std::string_view name;
  Effect (*from)(std::size_t index, const json& value);
};
constexpr std::array kinds{Kind{"Insert", insert_from}, Kind{"SSEBroadcast", broadcast_from}};

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
  return std::visit(
      [](const auto& value) -> json {
        using Kind = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Kind, Insert>) {
          json fields{{"table", value.table}, {"data", value.data}};
          if (value.on_conflict == OnConflict::ignore) fields["on_conflict"] = "ignore";
          return {{"Insert", std::move(fields)}};
        } else {
          static_assert(std::is_same_v<Kind, SSEBroadcast>);
          json fields{
              {"channel", value.channel}, {"event_type", value.event_type}, {"data", value.data}};
          if (value.ephemeral) fields["ephemeral"] = true;
          return {{"SSEBroadcast", std::move(fields)}};
        }
      },
      effect);
}

json to_json(const Effects& effects) {
  json list = json::array();
  for (const Effect& effect : effects) list.push_back(to_json(effect));
  return list;
}

std::string_view kind_of(const Effect& effect) {
  struct Name {
    std::string_view operator()(const Insert&) const { return "Insert"; }
    std::string_view operator()(const SSEBroadcast&) const { return "SSEBroadcast"; }
  };
  return std::visit(Name{}, effect);
}

}  // namespace spillway
