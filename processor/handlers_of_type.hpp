// Which handlers run for a type of event, in order: those of the type itself, then those of `*`.
// Types that begin with "spillway." are spillway's own: only what is built in handles them.
// Pure and thread-safe; the pointers live as long as the registry.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "spillway/registry.hpp"

namespace spillway {

inline constexpr std::string_view own_types_prefix = "spillway.";

// What spillway.broadcast() inserts: payload {channel, event_type, data, ephemeral}.
inline constexpr const char* broadcast_type = "spillway.Broadcast";

[[nodiscard]] std::vector<const Registration*> handlers_of_type(const Registry& registry,
                                                                const std::string& type);

}  // namespace spillway
