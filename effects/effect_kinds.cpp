#include "effects/effect_kinds.hpp"

#include <algorithm>
#include <utility>

#include "effects/effect_json.hpp"

namespace spillway {
namespace {

template <std::size_t... kind>
std::array<std::string_view, effect_kind_count> names_of(std::index_sequence<kind...>) {
  return {kind_of(Effect(std::in_place_index<kind>))...};
}

}  // namespace

const std::array<std::string_view, effect_kind_count>& effect_kind_names() {
  static const auto names = names_of(std::make_index_sequence<effect_kind_count>());
  return names;
}

std::optional<std::size_t> effect_kind(std::string_view name) {
  const auto& names = effect_kind_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<std::size_t>(found - names.begin());
}

std::string effect_kind_list() {
  std::string list;
  for (const std::string_view name : effect_kind_names())
    list.append(list.empty() ? "" : ", ").append(name);
  return list;
}

}  // namespace spillway
