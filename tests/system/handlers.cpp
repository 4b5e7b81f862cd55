// Handlers for tests: an event of any type says in its payload what is to happen, step by step:
//   {"do": [{"insert": {"table", "data"}}, {"tell": {"channel", "event_type", "data",
//   "ephemeral"?}},
//           {"throw": "text"}, {"throw_number": 1}]}
#include <spillway/spillway.hpp>
#include <stdexcept>
#include <string>

using namespace spillway;

namespace {

Effects perform(const Event& event) {
  Effects effects;
  if (!event.payload.contains("do")) return effects;
  for (const json& step : event.payload.at("do")) {
    const std::string& name = step.begin().key();
    const json& what = step.begin().value();
    if (name == "insert") {
      effects.push_back(Insert{what.at("table").get<std::string>(), what.at("data")});
    } else if (name == "tell") {
      effects.push_back(SSEBroadcast{what.at("channel").get<std::string>(),
                                     what.at("event_type").get<std::string>(), what.at("data"),
                                     what.value("ephemeral", false)});
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
