// Which headers a webhook may bring along: well-formed ones that belong to the message, not to the
// connection. Pure and thread-safe.
#pragma once

#include <map>
#include <string>

namespace spillway {

inline constexpr std::size_t max_webhook_headers = 32;
inline constexpr std::size_t max_webhook_header_bytes = 4096;  // of a name or a value

// Empty when fine, else what is wrong with which header. Values are not repeated: they may be
// secrets.
[[nodiscard]] std::string problem_of_webhook_headers(
    const std::map<std::string, std::string>& headers);

}  // namespace spillway
