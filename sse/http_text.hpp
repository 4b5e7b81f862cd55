// Responses of plain routes as bytes. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "sse/server.hpp"

namespace spillway::sse {

// The whole response. `head_only`: the same headers without the body, for HEAD.
[[nodiscard]] std::string to_bytes(const HttpResponse& response, bool keep_alive, bool head_only);

// {"error":"…"}; the message says what to do instead.
[[nodiscard]] HttpResponse error_response(unsigned status, std::string_view message);

}  // namespace spillway::sse
