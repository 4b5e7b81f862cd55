// A request's header, as it comes off the wire: Beast reads it, read_request_head() takes out what
// counts. No secret of it may get into what a log is shown.
#include "sse/request_head.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>

#include "sse/address.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace spillway::sse;
using spillway::fuzz::insist;
namespace http = boost::beast::http;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(8192);
  parser.body_limit(65536);
  boost::system::error_code error;
  // In two pieces, as a network gives it.
  const std::size_t first = size / 2;
  std::string text(spillway::fuzz::text_of(data, size));
  std::size_t used = parser.put(boost::asio::buffer(text.data(), first), error);
  if (!error || error == http::error::need_more) {
    error = {};
    if (!parser.is_header_done())
      used += parser.put(boost::asio::buffer(text.data() + used, text.size() - used), error);
  }
  if (!parser.is_header_done()) return 0;
  const RequestHead head = read_request_head(parser.get());
  insist(head.content_type.find(';') == std::string::npos, "a type without its parameters");
  insist(without_token(head.query).size() <= head.query.size(), "nothing is added");
  const std::string target = head.redacted_target();
  const auto [path, query] = split_target(target);
  const std::string shown = query_value(query, kTokenParameter);
  insist(shown.empty() || shown == "…", "a log never sees a token");
  insist(query_value(without_token(head.query), kTokenParameter).empty(), "nor does anybody else");
  return 0;
}
