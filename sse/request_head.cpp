#include "sse/request_head.hpp"

#include <algorithm>
#include <utility>

#include "sse/address.hpp"

namespace spillway::sse {
namespace {

namespace http = boost::beast::http;

std::string text(boost::beast::string_view view) {
  return {view.data(), view.size()};
}

std::string lower(std::string_view view) {
  std::string out(view);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

// "Application/JSON; charset=utf-8" is application/json.
std::string media_type(std::string_view header) {
  std::string_view type = header.substr(0, header.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  return lower(type);
}

template <class Name>
std::string joined(const http::fields& fields, Name name, std::string_view separator) {
  std::string out;
  const auto range = fields.equal_range(name);
  for (auto field = range.first; field != range.second; ++field) {
    if (!out.empty()) out += separator;
    out += text(field->value());
  }
  return out;
}

// However its name is written: a token that is not taken for one is a secret all the same.
bool names_token(std::string_view parameter) {
  const auto name = percent_decode(parameter.substr(0, parameter.find('=')), true);
  return name && lower(*name) == kTokenParameter;
}

template <class Visit>
void for_each_parameter(std::string_view query, Visit visit) {
  for (std::size_t begin = 0; begin <= query.size();) {
    const std::size_t end = std::min(query.find('&', begin), query.size());
    visit(query.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

RequestHead read_request_head(const http::header<true, http::fields>& header) {
  RequestHead head;
  head.method = text(header.method_string());
  const std::string target = text(header.target());
  const auto [path, query] = split_target(target);
  head.path = path;
  head.query = query;
  // Of two hosts the target's counts, by the rules of HTTP.
  head.host = target_authority(target);
  if (head.host.empty()) head.host = text(header[http::field::host]);
  head.origin = text(header[http::field::origin]);
  head.authorization = text(header[http::field::authorization]);
  head.cookie = joined(header, http::field::cookie, "; ");
  const std::string content_type = text(header[http::field::content_type]);
  head.content_type = media_type(content_type);
  head.last_event_id = text(header["Last-Event-ID"]);
  // What event-source-polyfill keeps up to date instead of the header, which CORS would ask about.
  if (head.last_event_id.empty()) head.last_event_id = query_value(query, "lastEventId");
  head.forwarded_for = joined(header, "X-Forwarded-For", ", ");
  head.preflight_method = text(header[http::field::access_control_request_method]);
  if (header.count(http::field::host) > 1) head.ambiguous = "Host";
  if (header.count(http::field::origin) > 1) head.ambiguous = "Origin";
  if (header.count(http::field::authorization) > 1) head.ambiguous = "Authorization";
  if (header.count(http::field::content_type) > 1) head.ambiguous = "Content-Type";
  return head;
}

std::string RequestHead::redacted_target() const {
  std::string out = path;
  char separator = '?';
  if (query.empty()) return out;
  for_each_parameter(query, [&](std::string_view parameter) {
    out += std::exchange(separator, '&');
    if (!names_token(parameter)) {
      out += parameter;
    } else {
      out += parameter.substr(0, parameter.find('='));
      out += "=…";
    }
  });
  return out;
}

std::string without_token(std::string_view query) {
  std::string out;
  for_each_parameter(query, [&](std::string_view parameter) {
    if (parameter.empty() || names_token(parameter)) return;
    if (!out.empty()) out += '&';
    out += parameter;
  });
  return out;
}

}  // namespace spillway::sse
