#include "processor/result_json.hpp"

#include <utility>

#include "effects/effect_error.hpp"
#include "effects/effect_json.hpp"

namespace spillway {
namespace {

std::string kind_of_value(const json& value) {
  if (value.is_null()) return "null";
  return (value.is_structured() ? "an " : "a ") + std::string(value.type_name());
}

}  // namespace

Result result_from_json(json value) {
  if (value.is_array()) return {effects_from_json(value)};
  if (!value.is_object())
    throw EffectError(
        R"(the result must be a list of effects, {"effects":[…],"response":…} or {"error":"why"}, not )" +
        kind_of_value(value));
  Result result;
  for (auto& [key, member] : value.items()) {
    if (key == "effects") {
      result.effects = effects_from_json(member);
    } else if (key == "response") {
      result.response = std::move(member);
    } else if (key == "error") {
      if (!member.is_string())
        throw EffectError("the result's \"error\" must be a string, not " + kind_of_value(member));
      if (value.size() > 1)
        throw EffectError("a result with \"error\" applies nothing, so it must have no other key");
      result.error = member.get<std::string>();
    } else {
      throw EffectError("the result's key \"" + key +
                        "\" is unknown; there is effects, response, error");
    }
  }
  return result;
}

json to_json(const Result& result) {
  if (result.error) return {{"error", *result.error}};
  json effects = to_json(result.effects);
  if (!result.response) return effects;
  return {{"effects", std::move(effects)}, {"response", *result.response}};
}

}  // namespace spillway
