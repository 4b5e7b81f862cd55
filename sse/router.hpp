// Which handler serves a path. Filled before the server starts, then only read, so any thread may
// look things up.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sse/server.hpp"

namespace spillway::sse {

struct Route {
  std::string method;
  std::string path;
  Right right = Right::admin;
  RouteHandler handler;
};

class Router {
 public:
  void add(Route route);

  // The route (GET's serves HEAD too), or the response that says why there is none: 405 with
  // `Allow`, or 404.
  [[nodiscard]] std::variant<const Route*, HttpResponse> find(std::string_view method,
                                                              std::string_view path) const;

 private:
  std::vector<Route> routes_;  // a dozen or two: a look at each costs less than a hash
};

}  // namespace spillway::sse
