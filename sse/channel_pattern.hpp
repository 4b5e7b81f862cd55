// The one grammar of what may be asked for and what may be granted. Pure functions.
//
//   CommentStream:item:42   this channel
//   CommentStream:*         every channel that starts with "CommentStream:"
//   *                       every channel; in a grant only
//
// A "*" anywhere else means nothing: such a grant allows nothing. Names are compared byte for byte,
// after the request's one percent-decoding: no case folding, no Unicode normalisation, no paths.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spillway::sse {

// What is wrong with a grant, and what to write instead; empty when nothing is.
[[nodiscard]] std::string problem_of_grant(std::string_view grant);

// Whether every channel that `wanted` (a name or a pattern, as parse_address() takes them) can
// deliver is one that `grant` allows.
[[nodiscard]] bool covers(std::string_view grant, std::string_view wanted);
// The same, by any one of them.
[[nodiscard]] bool covers(const std::vector<std::string>& grants, std::string_view wanted);

}  // namespace spillway::sse
