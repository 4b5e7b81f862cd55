// Dead letters as lines for people. Pure: the terminal's width is handed in.
//
// Errors and payloads come from anywhere: control characters, which could steer a terminal, are
// shown as spaces.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "processor/dead_letters.hpp"

namespace spillway::cli {

// A line for each, under a line of headings. With a width every line is cut to it and the errors
// begin behind "event 17 (Type): ", which stands in the columns; without one they are whole.
[[nodiscard]] std::string to_table(const std::vector<DeadLetter>& letters,
                                   std::optional<std::size_t> width);
[[nodiscard]] std::string to_table(const std::vector<DeadGroup>& groups,
                                   std::optional<std::size_t> width);

// All about one, and what can be done about it.
[[nodiscard]] std::string to_text(const DeadEvent& event);

}  // namespace spillway::cli
