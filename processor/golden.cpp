#include "processor/golden.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "effects/effect_error.hpp"
#include "processor/event_json.hpp"
#include "processor/line_diff.hpp"
#include "processor/result_json.hpp"
#include "processor/try_event.hpp"
#include "processor/worker.hpp"

namespace spillway {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view event_ending = ".event.json";
constexpr std::string_view effects_ending = ".effects.json";

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) throw std::runtime_error(file.filename().string() + " cannot be read");
  return text;
}

json parse(const fs::path& file) {
  try {
    return json::parse(read(file));
  } catch (const json::exception& error) {
    throw std::runtime_error(file.filename().string() + " is not JSON: " + error.what());
  }
}

// What may be written in more than one way is brought into one; what is no result stays as it is.
json normal(json expected) {
  try {
    return to_json(result_from_json(expected));
  } catch (const EffectError&) {
    return expected;
  }
}

std::string text_of(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

struct Names {
  std::vector<std::string> events;
  std::vector<std::string> effects;
};

Names names_in(const std::string& folder) {
  Names names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string file = entry->path().filename().string();
    for (const auto& [ending, list] :
         {std::pair{event_ending, &names.events}, std::pair{effects_ending, &names.effects}})
      if (file.ends_with(ending)) list->push_back(file.substr(0, file.size() - ending.size()));
  }
  if (error)
    throw ConfigurationError("--golden " + folder + ": cannot be read: " + error.message());
  if (names.events.empty())
    throw ConfigurationError("--golden " + folder +
                             ": has no events; write one as NAME.event.json, e.g. "
                             R"({"type": "CommentAdded", "payload": {}})");
  std::sort(names.events.begin(), names.events.end());
  std::sort(names.effects.begin(), names.effects.end());
  return names;
}

class Golden {
 public:
  Golden(const Registry& registry, fs::path folder, bool update, GoldenOutcome& outcome)
      : registry_(registry), folder_(std::move(folder)), update_(update), outcome_(outcome) {}

  // What is wrong; nothing when the handlers gave what is expected.
  std::string check(const std::string& name) {
    const Event event = event_from_json(parse(folder_ / (name + std::string(event_ending))));
    const std::string note =
        handlers_of(registry_, event).any ? "" : "no handler handles type \"" + event.type + "\"\n";
    const json actual = to_json(try_event(registry_, event, nullptr));
    const fs::path file = folder_ / (name + std::string(effects_ending));
    const bool there = fs::exists(file);
    if (there && (!update_ || is_json(file))) {
      const json expected = normal(parse(file));
      if (expected == actual) return {};
      if (!update_)
        return note + "- expected, + given\n" + line_diff(text_of(expected), text_of(actual));
    }
    if (!update_)
      return note + file.filename().string() + " is missing; --update writes it:\n" +
             text_of(actual);
    std::ofstream stream(file, std::ios::binary | std::ios::trunc);
    stream << text_of(actual);
    if (!stream.flush()) throw std::runtime_error(file.filename().string() + " cannot be written");
    ++outcome_.written;
    return {};
  }

 private:
  static bool is_json(const fs::path& file) { return json::accept(read(file)); }

  const Registry& registry_;
  fs::path folder_;
  bool update_;
  GoldenOutcome& outcome_;
};

}  // namespace

GoldenOutcome run_golden(const Registry& registry, const std::string& folder, bool update,
                         std::ostream& out) {
  const Names names = names_in(folder);
  GoldenOutcome outcome;
  Golden golden(registry, folder, update, outcome);
  const auto fail = [&](const std::string& name, const std::string& why) {
    out << "FAILED " << name << '\n' << why << (why.ends_with('\n') ? "" : "\n");
    ++outcome.failed;
  };
  for (const std::string& name : names.events) {
    try {
      const std::string why = golden.check(name);
      if (why.empty())
        ++outcome.passed;
      else
        fail(name, why);
    } catch (const std::exception& error) {
      fail(name, error.what());
    }
  }
  // A result without its event would never be looked at.
  for (const std::string& name : names.effects)
    if (!std::binary_search(names.events.begin(), names.events.end(), name))
      fail(name, name + std::string(event_ending) + " is missing");
  out << outcome.passed << " passed, " << outcome.failed << " failed";
  if (outcome.written > 0) out << ", " << outcome.written << " written";
  out << '\n';
  return outcome;
}

}  // namespace spillway
