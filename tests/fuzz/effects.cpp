// What a handler returns, as JSON: effects or an error that names the place, and the way back.
#include <string>

#include "effects/effect_error.hpp"
#include "effects/effect_json.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace spillway;
using spillway::fuzz::insist;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const json input = json::parse(data, data + size, nullptr, false);
  if (input.is_discarded()) return 0;
  try {
    const Effects effects = effects_from_json(input);
    insist(input.is_array() && effects.size() == input.size(), "each element is one effect");
    const Effects again = effects_from_json(to_json(effects));
    insist(again == effects, "written and read it is the same");
    for (const Effect& effect : effects) insist(!kind_of(effect).empty(), "each has a kind");
  } catch (const EffectError& error) {
    insist(*error.what() != '\0', "an error says something");
  }
  return 0;
}
