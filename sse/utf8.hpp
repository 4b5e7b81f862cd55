// UTF-8 checks for what comes from outside. Pure functions, no allocation unless a string is
// returned.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace spillway::sse {

// Well-formed as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] bool valid_utf8(std::string_view text);

// The same text with each byte that is not part of a well-formed character replaced by U+FFFD.
[[nodiscard]] std::string repair_utf8(std::string_view text);

// The longest prefix of at most `bytes` bytes that ends between characters; `text` is valid.
[[nodiscard]] std::string_view cut_utf8(std::string_view text, std::size_t bytes);

}  // namespace spillway::sse
