#include "processor/jq_value.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "effects/effect_error.hpp"
#include "effects/serialize.hpp"

namespace spillway {
namespace {

using nlohmann::json;

jv text(const std::string& value) {
  if (value.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw EffectError("a text of more than 2 GiB does not fit into jq");
  return jv_string_sized(value.data(), static_cast<int>(value.size()));
}

[[noreturn]] void too_deep() {
  throw EffectError("a value is nested more than " + std::to_string(deepest_json) + " levels deep");
}

Jv to_jv(const json& value, int levels) {
  switch (value.type()) {
    case json::value_t::boolean:
      return Jv(jv_bool(value.get<bool>() ? 1 : 0));
    case json::value_t::string:
      return Jv(text(value.get_ref<const std::string&>()));
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
    case json::value_t::number_float:
      return Jv(jv_number(value.get<double>()));
    case json::value_t::array: {
      if (levels == 0) too_deep();
      Jv array(jv_array());
      for (const json& element : value) {
        Jv converted = to_jv(element, levels - 1);
        array.reset(jv_array_append(array.release(), converted.release()));
      }
      return array;
    }
    case json::value_t::object: {
      if (levels == 0) too_deep();
      Jv object(jv_object());
      for (const auto& [key, member] : value.items()) {
        Jv converted = to_jv(member, levels - 1);
        jv name = text(key);
        object.reset(jv_object_set(object.release(), name, converted.release()));
      }
      return object;
    }
    case json::value_t::null:
    case json::value_t::binary:
    case json::value_t::discarded:
      break;
  }
  return Jv(jv_null());
}

json number(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return std::copysign(std::numeric_limits<double>::max(), value);
  constexpr double beyond = 9223372036854775808.0;  // 2^63
  if (value == std::trunc(value) && value >= -beyond && value < beyond)
    return static_cast<std::int64_t>(value);
  return value;
}

std::string text_of(jv value) {
  return {jv_string_value(value), static_cast<std::size_t>(jv_string_length_bytes(jv_copy(value)))};
}

json from_jv(const Jv& value, int levels) {
  switch (value.kind()) {
    case JV_KIND_FALSE:
      return false;
    case JV_KIND_TRUE:
      return true;
    case JV_KIND_NUMBER:
      return number(jv_number_value(value.get()));
    case JV_KIND_STRING:
      return text_of(value.get());
    case JV_KIND_ARRAY: {
      if (levels == 0) too_deep();
      json::array_t array;
      const int length = jv_array_length(value.copy());
      array.reserve(static_cast<std::size_t>(length));
      for (int i = 0; i < length; ++i)
        array.push_back(from_jv(Jv(jv_array_get(value.copy(), i)), levels - 1));
      return json(std::move(array));
    }
    case JV_KIND_OBJECT: {
      if (levels == 0) too_deep();
      json::object_t object;
      for (int at = jv_object_iter(value.get()); jv_object_iter_valid(value.get(), at) != 0;
           at = jv_object_iter_next(value.get(), at)) {
        const Jv key(jv_object_iter_key(value.get(), at));
        object.emplace(text_of(key.get()),
                       from_jv(Jv(jv_object_iter_value(value.get(), at)), levels - 1));
      }
      return json(std::move(object));
    }
    case JV_KIND_INVALID:
    case JV_KIND_NULL:
      break;
  }
  return nullptr;
}

}  // namespace

Jv to_jv(const json& value) {
  return to_jv(value, deepest_json);
}

json from_jv(const Jv& value) {
  return from_jv(value, deepest_json);
}

}  // namespace spillway
