#include "sse/router.hpp"

#include <utility>

#include "sse/http_text.hpp"

namespace spillway::sse {

void Router::add(Route route) {
  routes_.push_back(std::move(route));
}

std::variant<const Route*, HttpResponse> Router::find(std::string_view method,
                                                      std::string_view path) const {
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  std::string allow;
  for (const Route& route : routes_) {
    if (route.path != path) continue;
    if (route.method == wanted || route.method == method) return &route;
    if (!allow.empty()) allow += ", ";
    allow += route.method == "GET" ? "GET, HEAD" : route.method;
  }
  if (!allow.empty()) {
    HttpResponse response = error_response(405, "this path takes " + allow);
    response.headers.emplace_back("Allow", allow);
    return response;
  }
  std::string message = "nothing is here; there is /sse/{stream_type}/{channel}";
  for (const Route& route : routes_) message += ", " + route.method + " " + route.path;
  return error_response(404, message);
}

}  // namespace spillway::sse
