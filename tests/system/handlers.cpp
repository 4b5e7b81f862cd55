// Handlers for tests: an event of any type says in its payload what is to happen, step by step:
//   {"do": [{"insert": {"table", "data"}},
//           {"update": {"table", "set", "where"}},
//           {"tell": {"channel", "event_type", "data", "ephemeral"?}},
//           {"webhook": {"url", "payload", "name"?}}, {"throw": "text"}, {"throw_number": 1},
//           {"end": "loop" | "segfault" | "abort" | "recurse" | "allocate" | "exit"}]}
#include <unistd.h>
#include <spillway/spillway.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace spillway;

namespace {

std::atomic<unsigned> turns{0};  // what no compiler may leave out

[[gnu::noinline]] unsigned recurse(
    unsigned depth) {               // NOLINT(misc-no-recursion): that is the point
  if (turns == 1u << 31) return 0;  // never
  volatile char space[4096];
  space[depth % sizeof space] = 1;
  return recurse(depth + 1) + static_cast<unsigned>(space[(depth + turns) % sizeof space]);
}

// Does not come back.
void end_process(const std::string& how) {
  if (how == "loop") {
    for (;;) ++turns;
  } else if (how == "segfault") {
    raise(SIGSEGV);
  } else if (how == "abort") {
    std::abort();
  } else if (how == "recurse") {
    turns += recurse(0);
  } else if (how == "allocate") {
    std::vector<std::string> all;
    for (;;) all.emplace_back(std::string(1 << 20, 'x'));
  } else if (how == "exit") {
    _exit(7);
  }
}

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
    } else if (name == "sleep_ms") {
      std::this_thread::sleep_for(std::chrono::milliseconds(what.get<int>()));
    } else if (name == "end") {
      end_process(what.get<std::string>());
    }
  }
  return effects;
}

}  // namespace

SPILLWAY_HANDLERS(registry) {
  registry.on("*", perform);
}
