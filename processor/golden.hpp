// Golden files: events with the effects that handlers must give for them, so that a change of
// behaviour shows. NAME.event.json is an event, NAME.effects.json beside it the expected result.
//
// No database: `data` of the event stands for the rows that a handler reads. One thread.
// Errors: ConfigurationError when the folder has no events; what is wrong with a file is a failure.
#pragma once

#include <cstddef>
#include <ostream>
#include <string>

#include "spillway/registry.hpp"

namespace spillway {

struct GoldenOutcome {
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::size_t written = 0;  // by an update; these count as passed too
};

// Says on `out` what differs, and how. `update`: writes what the handlers give, instead.
GoldenOutcome run_golden(const Registry& registry, const std::string& folder, bool update,
                         std::ostream& out);

}  // namespace spillway
