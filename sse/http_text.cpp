#include "sse/http_text.hpp"

#include <boost/beast/http/status.hpp>

#include "sse/frame.hpp"

namespace spillway::sse {
namespace {

void append_header(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

std::string to_bytes(const HttpResponse& response, bool keep_alive, bool head_only,
                     const Headers& more) {
  const auto reason =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(response.status));
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " ";
  out.append(reason.data(), reason.size()).append("\r\n");
  if (!response.body.empty()) append_header(out, "Content-Type", response.content_type);
  // These answers have no body by definition, so they have no length either.
  const bool bodiless = response.status < 200 || response.status == 204 || response.status == 304;
  if (!bodiless) append_header(out, "Content-Length", std::to_string(response.body.size()));
  for (const auto& [name, value] : response.headers) append_header(out, name, value);
  for (const auto& [name, value] : more) append_header(out, name, value);
  append_header(out, "Connection", keep_alive ? "keep-alive" : "close");
  out += "\r\n";
  if (!head_only && !bodiless) out += response.body;
  return out;
}

std::string to_lines(const Headers& headers) {
  std::string out;
  for (const auto& [name, value] : headers) append_header(out, name, value);
  return out;
}

HttpResponse error_response(unsigned status, std::string_view message) {
  HttpResponse response;
  response.status = status;
  response.body = "{\"error\":" + json_string(message) + "}";
  return response;
}

}  // namespace spillway::sse
