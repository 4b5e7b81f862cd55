// Responses of plain routes as bytes. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sse/server.hpp"

namespace spillway::sse {

using Headers = std::vector<std::pair<std::string, std::string>>;

// The whole response. `head_only`: the same headers without the body, for HEAD. `more`: headers
// beside its own.
[[nodiscard]] std::string to_bytes(const HttpResponse& response, bool keep_alive, bool head_only,
                                   const Headers& more = {});

// Lines of a head, each with its end.
[[nodiscard]] std::string to_lines(const Headers& headers);

// {"error":"…"}; the message says what to do instead.
[[nodiscard]] HttpResponse error_response(unsigned status, std::string_view message);

}  // namespace spillway::sse
