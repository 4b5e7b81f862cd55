// Who may: the decisions about one request, from its header alone. A refusal is a whole response
// that says what is missing; it holds nothing secret.
//
// One thread: each shard has its own. The clock is given.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "sse/access_options.hpp"
#include "sse/origin.hpp"
#include "sse/request_head.hpp"
#include "sse/server.hpp"
#include "sse/token.hpp"
#include "sse/token_cache.hpp"

namespace spillway::sse {

// Somebody who may do what was asked for.
struct Caller {
  std::string subject;             // the token's `sub`; empty: not known
  std::optional<Seconds> expires;  // what was granted ends here
};

using Admission = std::variant<Caller, HttpResponse>;

class Access {
 public:
  explicit Access(AccessOptions options) : options_(std::move(options)) {}

  // Before anything else: was the request sent to a name that leads here? `local`: it came by a way
  // that no browser has.
  [[nodiscard]] std::optional<HttpResponse> check_host(const RequestHead& head, bool local) const;

  // All of these channels, names and patterns, or none.
  [[nodiscard]] Admission subscribe(const RequestHead& head,
                                    const std::vector<std::string>& channels, Seconds now);

  // A route that needs `right`.
  [[nodiscard]] Admission call(const RequestHead& head, Right right, Seconds now);

  // The headers that go with any answer to this request.
  [[nodiscard]] Headers headers(const RequestHead& head) const;

  // Does a browser ask whether it may ask?
  [[nodiscard]] bool is_preflight(const RequestHead& head) const;
  [[nodiscard]] HttpResponse preflight(const RequestHead& head, std::string methods) const;

 private:
  [[nodiscard]] std::variant<Claims, HttpResponse> claims_of(const RequestHead& head, Seconds now);

  const AccessOptions options_;
  TokenCache verified_;
};

}  // namespace spillway::sse
