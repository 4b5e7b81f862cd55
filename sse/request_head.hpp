// What a request says about itself, read off its header once. Plain values; the reader is a pure
// function. Nothing is decoded here and nothing is checked but that what must be unique is.
//
// The query, `authorization` and `cookie` may hold secrets: a log, an error text or a label takes
// redacted_target(), never the target.
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>
#include <string>
#include <string_view>

namespace spillway::sse {

// The query's parameter, and the cookie, that carry a token.
inline constexpr std::string_view kTokenParameter = "access_token";
inline constexpr std::string_view kTokenCookie = "spillway_token";

struct RequestHead {
  std::string method;  // as sent: "GET", "HEAD", "POST" …
  std::string path;    // as sent, still percent-encoded
  std::string query;   // as sent, without "?"
  std::string host;    // `Host`, or the authority of a target in absolute form; empty: none
  std::string origin;
  std::string authorization;
  std::string cookie;            // several headers are joined with "; "
  std::string content_type;      // lower case, without parameters
  std::string last_event_id;     // the header, else `lastEventId` of the query
  std::string forwarded_for;     // X-Forwarded-For; several are joined with ", "
  std::string preflight_method;  // Access-Control-Request-Method

  // Which header came twice although only one can be meant: such a request is refused. Empty: none.
  std::string_view ambiguous;

  [[nodiscard]] bool head_only() const { return method == "HEAD"; }

  // The target for logs: the same, but every access_token's value is "…".
  [[nodiscard]] std::string redacted_target() const;
};

[[nodiscard]] RequestHead read_request_head(
    const boost::beast::http::header<true, boost::beast::http::fields>& header);

// The query without its access_token parameters, for whoever has no business with them.
[[nodiscard]] std::string without_token(std::string_view query);

}  // namespace spillway::sse
