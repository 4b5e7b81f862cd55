// A request's target, as a client writes it: which channels it names, or why it is refused.
#include <set>
#include <string>
#include <variant>

#include "sse/address.hpp"
#include "sse/channel_name.hpp"
#include "sse/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace spillway::sse;
using spillway::fuzz::insist;

namespace {

constexpr std::size_t kMost = 8;  // channels

void check_names(const Channels& channels) {
  insist(!channels.empty() && channels.size() <= kMost, "as many channels as allowed");
  const std::set<std::string> different(channels.begin(), channels.end());
  insist(different.size() == channels.size(), "each channel once");
  for (const std::string& name : channels) {
    insist(!name.empty() && name.size() <= kChannelNameBytes, "a name of allowed length");
    insist(valid_utf8(name), "a name in UTF-8");
    for (const char c : name)
      insist(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f,
             "a name without control characters");
    if (const auto prefix = pattern_prefix(name))
      insist(prefix->ends_with(':') && name.starts_with(*prefix), "a prefix ends in a colon");
    else
      insist(problem_of_channel(name).empty(), "a name can be broadcast to");
  }
}

std::string encoded(std::string_view name) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view target = spillway::fuzz::text_of(data, size);
  const auto [path, query] = split_target(target);
  static_cast<void>(percent_decode(path, false));
  const std::string id = query_value(query, "last_event_id");
  insist(id.size() <= query.size(), "decoding makes nothing longer");
  if (!is_stream_path(path)) return 0;
  const auto parsed = parse_address(path, query, kMost);
  if (const auto* error = std::get_if<AddressError>(&parsed)) {
    insist(!error->message.empty() && valid_utf8(error->message), "an error has a text to be sent");
    return 0;
  }
  const Channels& channels = std::get<Channels>(parsed);
  check_names(channels);
  // Written out in full it means the same.
  std::string again;
  for (const std::string& name : channels)
    again += (again.empty() ? "channel=" : "&channel=") + encoded(name);
  const auto twice = parse_address("/sse", again, kMost);
  insist(std::holds_alternative<Channels>(twice) && std::get<Channels>(twice) == channels,
         "what is parsed can be asked for again");
  return 0;
}
