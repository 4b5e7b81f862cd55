// Which channels a request asks for. Pure functions over the request target; errors are values
// whose message says what to write instead.
//
// `/sse/{stream_type}/{channel}` is the channel `{stream_type}:{channel}`. The type ends at the
// first plain slash; all that follows it is the channel, so a further slash, plain or as %2F, is
// part of the channel's name. `/sse?channel=A&channel=B` names several; in a query "+" is a space.
// A channel that ends in ":*" is a pattern: every channel that starts with what stands before the
// "*".
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace spillway::sse {

struct AddressError {
  std::string message;
};

using Channels = std::vector<std::string>;

// nullopt: a "%" without two hexadecimal digits behind it.
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

// The first parameter of that name, decoded; empty when it is absent or cannot be decoded.
[[nodiscard]] std::string query_value(std::string_view query, std::string_view name);

// Path and query of a request target, both as sent; takes the absolute form too.
[[nodiscard]] std::pair<std::string_view, std::string_view> split_target(std::string_view target);

// Host and port of a target in absolute form; empty for any other.
[[nodiscard]] std::string_view target_authority(std::string_view target);

[[nodiscard]] bool is_stream_path(std::string_view raw_path);

// The channels in the order they were first named, each once, `most` of them at most; their names
// are as channel_name.hpp says.
[[nodiscard]] std::variant<Channels, AddressError> parse_address(std::string_view raw_path,
                                                                 std::string_view raw_query,
                                                                 std::size_t most);

}  // namespace spillway::sse
