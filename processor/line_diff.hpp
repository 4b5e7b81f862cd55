// The difference of two texts, line by line, for people. Pure and thread-safe.
#pragma once

#include <string>

namespace spillway {

// Lines of `expected` alone begin with "- ", of `actual` alone with "+ ", of both with "  "; of the
// common ones only those near a difference are shown. Empty when the texts are equal.
[[nodiscard]] std::string line_diff(const std::string& expected, const std::string& actual);

}  // namespace spillway
