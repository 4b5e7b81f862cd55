// The handlers that are tortured. What an event does stands in its payload:
//   {"m": mark, "tell": [channel…], "hush": [channel…], "nap": ms, "fail": attempts,
//    "bad": "throw"|"table"|"value", "follow": {"delay": seconds, "stream": name or null}}
// Every event that is not bad by design leaves one row in `handled`.
#include <chrono>
#include <spillway/spillway.hpp>
#include <stdexcept>
#include <string>
#include <thread>

using namespace spillway;

namespace {

Effects wrote(const Event& event) {
  const json& payload = event.payload;
  const std::string mark = payload.at("m").get<std::string>();
  if (payload.contains("nap"))
    std::this_thread::sleep_for(std::chrono::milliseconds(payload.at("nap").get<int>()));
  if (event.attempt <= payload.value("fail", 0)) throw std::runtime_error("not yet, says " + mark);
  const std::string bad = payload.value("bad", "");
  if (bad == "throw") throw std::runtime_error("never, says " + mark);

  json row = {{"mark", mark},
              {"event_id", event.id},
              {"stream", event.stream ? json(*event.stream) : json()},
              {"attempt", event.attempt}};
  if (bad == "value") row["event_id"] = "no number";
  Effects effects{Insert{bad == "table" ? "no_such_table" : "handled", row}};
  int i = 0;
  for (const json& channel : payload.value("tell", json::array()))
    effects.push_back(SSEBroadcast{
        channel.get<std::string>(), "said",
        json{{"m", mark}, {"i", i++}, {"text", "\xE2\x82\xAC \"quoted\"\nand a second line"}}});
  for (const json& channel : payload.value("hush", json::array()))
    effects.push_back(SSEBroadcast{channel.get<std::string>(), "hush", mark, true});
  if (payload.contains("follow")) {
    const json& follow = payload.at("follow");
    ScheduleEvent next{"Wrote",
                       {{"m", mark + "+"}, {"tell", payload.value("tell", json::array())}}};
    next.delay_seconds = follow.at("delay").get<double>();
    if (!follow.at("stream").is_null()) next.stream = follow.at("stream").get<std::string>();
    effects.push_back(next);
  }
  return effects;
}

}  // namespace

SPILLWAY_HANDLERS(registry) {
  registry.on("Wrote", wrote);
}
