#include "processor/handlers_of_type.hpp"

#include <utility>

#include "effects/effect_json.hpp"

namespace spillway {
namespace {

const Registry& built_in() {
  static const Registry registry = [] {
    Registry own;
    own.set_origin("spillway");
    own.on(broadcast_type, [](const Event& event) {
      json effect = json::object();
      effect["SSEBroadcast"] = event.payload;
      json list = json::array();
      list.push_back(std::move(effect));
      return effects_from_json(list);
    });
    return own;
  }();
  return registry;
}

}  // namespace

std::vector<const Registration*> handlers_of_type(const Registry& registry,
                                                  const std::string& type) {
  std::vector<const Registration*> found;
  const auto add = [&](const Registry& from, std::string_view key) {
    if (const auto* registrations = from.find(key))
      for (const Registration& registration : *registrations) found.push_back(&registration);
  };
  if (type.starts_with(own_types_prefix)) {
    add(built_in(), type);
    return found;
  }
  add(registry, type);
  if (type != "*") add(registry, "*");
  return found;
}

}  // namespace spillway
