// What a channel may be called: one rule for whoever broadcasts and whoever subscribes, so that
// nothing can be broadcast to a name that nobody can listen to.
//
// A name has 1 to 255 bytes of UTF-8 without control characters, and is taken as it is written:
// spaces, slashes and case count. One that ends in ":*" is a pattern, every channel that starts
// with what stands before the "*"; only subscribers name patterns. spillway.broadcast() in
// migrations/ says the same in SQL, in the same words. Pure and thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace spillway::sse {

// No option: a process with another limit than the one that broadcasts would have channels that
// nobody can subscribe to.
inline constexpr std::size_t kChannelNameBytes = 255;

// Empty when fine, else what is wrong and what to write instead, to be put behind "channel ".
[[nodiscard]] std::string problem_of_channel(std::string_view name);       // to broadcast to
[[nodiscard]] std::string problem_of_subscription(std::string_view name);  // a pattern is fine too

// The rule without what it says of patterns: 1 to 255 bytes of UTF-8, no control characters.
[[nodiscard]] std::string problem_of_text(std::string_view name);

// The prefix of a pattern, with its colon; nullopt for an exact channel.
[[nodiscard]] std::optional<std::string_view> pattern_prefix(std::string_view name);

// Whether who subscribes to `wanted`, a name or a pattern, gets what is broadcast to `channel`.
[[nodiscard]] bool listens_to(std::string_view wanted, std::string_view channel);

}  // namespace spillway::sse
