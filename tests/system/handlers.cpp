// Handlers for tests: an event of any type says in its payload what is to happen, step by step:
//   {"do": [{"insert": {"table", "data"}},
//           {"update": {"table", "set", "where"}},
//           {"tell": {"channel", "event_type", "data", "ephemeral"?}},
//           {"webhook": {"url", "payload", "name"?}}, {"throw": "text"}, {"throw_number": 1}]}
#include <spillway/spillway.hpp>
#include <stdexcept>
#include <string>

using namespace spillway;

namespace {

Effects perform(const Event& event) {
  Effects effects;
  if (!event.payload.contains("do")) return effects;
  for (const json& step : event.payload.at("do")) {
    const auto first = step.begin();
    const std::string& name = first.key();
    const json& what = first.value();
    if (name == "insert") {
      effects.push_back(Insert{what.at("table").get<std::string>(), what.at("data")});
    } else if (name == "update") {
      effects.push_back(
          Update{what.at("table").get<std::string>(), what.at("set"), what.at("where")});
    } else if (name == "tell") {
      effects.push_back(SSEBroadcast{what.at("channel").get<std::string>(),
                                     what.at("event_type").get<std::string>(), what.at("data"),
                                     what.value("ephemeral", false)});
    } else if (name == "webhook") {
      effects.push_back(TriggerWebhook{
          what.at("url").get<std::string>(), what.at("payload"), {}, what.value("name", "")});
    } else if (name == "throw") {
      throw std::runtime_error(what.get<std::string>());
    } else if (name == "throw_number") {
      throw what.get<int>();
    }
  }
  return effects;
}

}  // namespace

SPILLWAY_HANDLERS(registry) {
  registry.on("*", perform);
}
