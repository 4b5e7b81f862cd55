// Where options come from: flags, then SPILLWAY_* environment variables, then --config FILE (TOML).
//
// CLI11 alone lets a configuration file win over the environment; so both are turned into flags
// here, the stronger source first, before CLI11 sees the command line. Pure but for reading the
// file.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace spillway::cli {

// The command line with what the environment and the file add to it. `app` tells which options
// there are: --listen of command `run` is SPILLWAY_LISTEN, and `listen = "…"` in the file (at the
// top, or under [run]; [dead] is for all commands below `dead`). Lists in a variable are separated
// by ":" for paths, "," else. Throws CLI::ParseError with a message for the user.
[[nodiscard]] std::vector<std::string> with_other_sources(
    const CLI::App& app, const std::vector<std::string>& arguments,
    const std::function<std::optional<std::string>(const std::string&)>& environment);

}  // namespace spillway::cli
