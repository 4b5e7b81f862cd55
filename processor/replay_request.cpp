#include "processor/replay_request.hpp"

namespace spillway {
namespace {

using nlohmann::json;

template <typename Value>
json or_null(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

template <typename Value>
std::optional<Value> optional_of(const json& value) {
  return value.is_null() ? std::optional<Value>() : value.get<Value>();
}

}  // namespace

EffectKinds default_replay_kinds() {
  EffectKinds kinds = EffectKinds::all();
  for (const char* name : {"SSEBroadcast", "TriggerWebhook", "ScheduleEvent", "Log"})
    kinds.erase(effect_kind(name).value());
  return kinds;
}

json to_json(const ReplayRequest& request) {
  json kinds = json::array();
  for (std::size_t kind = 0; kind < effect_kind_count; ++kind)
    if (request.kinds.contains(kind)) kinds.push_back(effect_kind_names()[kind]);
  return {{"from", request.from},
          {"to", or_null(request.to)},
          {"types", request.types},
          {"streams", request.streams},
          {"since", or_null(request.since)},
          {"until", or_null(request.until)},
          {"kinds", std::move(kinds)},
          {"include_dead", request.include_dead},
          {"dry_run", request.dry_run},
          {"truncate", request.truncate}};
}

ReplayRequest replay_request_from_json(const json& value) {
  ReplayRequest request;
  request.from = value.at("from").get<std::int64_t>();
  request.to = optional_of<std::int64_t>(value.at("to"));
  request.types = value.at("types").get<std::vector<std::string>>();
  request.streams = value.at("streams").get<std::vector<std::string>>();
  request.since = optional_of<std::string>(value.at("since"));
  request.until = optional_of<std::string>(value.at("until"));
  request.kinds = EffectKinds::none();
  for (const auto& name : value.at("kinds"))
    request.kinds.insert(effect_kind(name.get<std::string>()).value());
  request.include_dead = value.at("include_dead").get<bool>();
  request.dry_run = value.at("dry_run").get<bool>();
  request.truncate = value.at("truncate").get<std::vector<std::string>>();
  return request;
}

}  // namespace spillway
