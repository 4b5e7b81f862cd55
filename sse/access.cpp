#include "sse/access.hpp"

#include <algorithm>

#include "sse/address.hpp"
#include "sse/auth_key.hpp"
#include "sse/channel_pattern.hpp"
#include "sse/http_text.hpp"

namespace spillway::sse {
namespace {

HttpResponse unauthorized(std::string_view why, bool sent_one) {
  HttpResponse response = error_response(401, why);
  response.headers.emplace_back(
      "WWW-Authenticate",
      sent_one ? "Bearer error=\"invalid_token\", error_description=\"" + std::string(why) + "\""
               : std::string("Bearer"));
  return response;
}

bool same_but_for_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto low = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return low(x) == low(y);
  });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Any other scheme is for somebody else, a proxy with passwords of its own.
std::string_view bearer(std::string_view authorization) {
  const std::string_view text = trimmed(authorization);
  const std::size_t space = std::min(text.find(' '), text.size());
  if (!same_but_for_case(text.substr(0, space), "bearer")) return {};
  return trimmed(text.substr(space));
}

std::string_view cookie(std::string_view cookies, std::string_view name) {
  while (!cookies.empty()) {
    const std::size_t end = std::min(cookies.find(';'), cookies.size());
    const std::string_view pair = trimmed(cookies.substr(0, end));
    cookies.remove_prefix(std::min(end + 1, cookies.size()));
    const std::size_t sign = pair.find('=');
    if (sign != std::string_view::npos && pair.substr(0, sign) == name)
      return pair.substr(sign + 1);
  }
  return {};
}

bool changes_nothing(const RequestHead& head) {
  return head.method == "GET" || head.method == "HEAD";
}

// A browser adds cookies to what any page sends, so they count only where the page may be trusted.
bool cookies_count(OriginKind kind) {
  return kind == OriginKind::none || kind == OriginKind::same || kind == OriginKind::listed;
}

// Where the token stands, the first of: header, query, cookie. Empty: nowhere.
std::string token_of(const RequestHead& head, OriginKind kind) {
  if (const auto token = bearer(head.authorization); !token.empty()) return std::string(token);
  if (auto token = query_value(head.query, kTokenParameter); !token.empty()) return token;
  if (cookies_count(kind)) return std::string(cookie(head.cookie, kTokenCookie));
  return {};
}

bool query_names_two_tokens(std::string_view query) {
  const std::string parameter = std::string(kTokenParameter) + "=";
  std::size_t count = 0;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&', 0), query.size());
    if (query.substr(0, end).starts_with(parameter)) ++count;
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return count > 1;
}

bool has(const Claims& claims, Right right) {
  switch (right) {
    case Right::none:
      return true;
    case Right::publish:
      return claims.publish;
    case Right::admin:
      return claims.admin;
  }
  return false;
}

constexpr std::string_view kNoToken =
    "a token is needed; send it as Authorization: Bearer, as the cookie spillway_token or as "
    "access_token in the query";

}  // namespace

std::optional<HttpResponse> Access::check_host(const RequestHead& head, bool local) const {
  if (!options_.check_host || local || is_own_host(head.host, options_.allowed_hosts))
    return std::nullopt;
  return error_response(
      403,
      "this server is for this machine, and the request's Host is not one of its names; ask "
      "for http://localhost:PORT, or start it with --allowed-host NAME when a proxy passes "
      "that name on");
}

std::variant<Claims, HttpResponse> Access::claims_of(const RequestHead& head, Seconds now) {
  if (query_names_two_tokens(head.query))
    return unauthorized("access_token is given more than once", true);
  const std::string token = token_of(head, origin_kind(head, options_.cors));
  if (token.empty()) return unauthorized(kNoToken, false);
  auto verified = verified_.verify(token, options_.keys->current(), now);
  if (const auto* error = std::get_if<TokenError>(&verified)) return unauthorized(error->why, true);
  return std::get<Claims>(std::move(verified));
}

Admission Access::subscribe(const RequestHead& head, const std::vector<std::string>& channels,
                            Seconds now) {
  if (!options_.keys) return Caller{};
  const bool is_public = std::all_of(channels.begin(), channels.end(), [&](const auto& channel) {
    return covers(options_.public_channels, channel);
  });
  auto claims = claims_of(head, now);
  const auto* known = std::get_if<Claims>(&claims);
  // Nothing was granted that could end; who it is may be known all the same.
  if (is_public) return Caller{known != nullptr ? known->subject : std::string(), std::nullopt};
  if (known == nullptr) return std::get<HttpResponse>(std::move(claims));
  for (const std::string& channel : channels) {
    if (covers(known->subscribe, channel) || covers(options_.public_channels, channel)) continue;
    return error_response(403, "the token does not allow the channel " + channel +
                                   "; its claim subscribe has to name it, or a prefix of it");
  }
  return Caller{known->subject, known->expires};
}

Admission Access::call(const RequestHead& head, Right right, Seconds now) {
  const OriginKind kind = origin_kind(head, options_.cors);
  if (!changes_nothing(head)) {
    // With "*" but without tokens anybody's page could enqueue.
    const bool trusted = cookies_count(kind) || (kind == OriginKind::any && options_.keys);
    if (!trusted)
      return error_response(403,
                            "a page of another origin may not do this; name its origin with "
                            "--cors, as scheme://host:port");
  }
  if (!options_.keys || right == Right::none) return Caller{};
  auto claims = claims_of(head, now);
  const auto* known = std::get_if<Claims>(&claims);
  if (known == nullptr) return std::get<HttpResponse>(std::move(claims));
  if (!has(*known, right))
    return error_response(403, right == Right::publish
                                   ? "the token does not allow this; its claim publish has to be "
                                     "true"
                                   : "the token does not allow this; its claim admin has to be "
                                     "true");
  return Caller{known->subject, known->expires};
}

Headers Access::headers(const RequestHead& head) const {
  if (options_.cors.empty()) return {};
  return cors_headers(head, origin_kind(head, options_.cors), options_.cors);
}

bool Access::is_preflight(const RequestHead& head) const {
  return !options_.cors.empty() && head.method == "OPTIONS" && !head.origin.empty() &&
         !head.preflight_method.empty();
}

HttpResponse Access::preflight(const RequestHead& head, std::string methods) const {
  if (origin_kind(head, options_.cors) == OriginKind::foreign)
    return error_response(403, "this origin is not one of those given with --cors");
  return {204, "", "", preflight_headers(std::move(methods))};
}

}  // namespace spillway::sse
