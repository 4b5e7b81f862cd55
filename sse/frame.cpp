#include "sse/frame.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <nlohmann/json.hpp>

#include "sse/event_id.hpp"
#include "sse/utf8.hpp"

namespace spillway::sse {
namespace {

constexpr std::size_t kRequestedBytes = 64;

// From `start` on.
void without_line_breaks(std::string& out, std::size_t start) {
  std::replace_if(
      out.begin() + static_cast<std::ptrdiff_t>(start), out.end(),
      [](char c) { return c == '\r' || c == '\n' || c == '\0'; }, ' ');
}

void append_event(std::string& out, std::string_view event_type) {
  if (event_type.empty()) return;
  out += "event: ";
  const std::size_t start = out.size();
  if (valid_utf8(event_type)) {
    out += event_type;
  } else {
    out += repair_utf8(event_type);
  }
  without_line_breaks(out, start);
  out += '\n';
}

void append_line(std::string& out, std::string_view line) {
  out += "data: ";
  out += line;
  out += '\n';
}

bool contains(std::string_view text, char c) {
  return !text.empty() && std::memchr(text.data(), c, text.size()) != nullptr;
}

void append_data(std::string& out, std::string_view data) {
  std::string repaired;
  if (!valid_utf8(data)) {
    repaired = repair_utf8(data);
    data = repaired;
  }
  // Nearly all data is one line of JSON; the search by two characters is much slower than memchr.
  if (!contains(data, '\n') && !contains(data, '\r')) {
    append_line(out, data);
    return;
  }
  for (;;) {
    const std::size_t end = data.find_first_of("\r\n");
    if (end == std::string_view::npos) break;
    append_line(out, data.substr(0, end));
    const bool crlf = data[end] == '\r' && end + 1 < data.size() && data[end + 1] == '\n';
    data.remove_prefix(end + (crlf ? 2 : 1));
  }
  append_line(out, data);
}

}  // namespace

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void append_frame(std::string& out, std::string_view epoch, std::uint64_t position,
                  std::string_view event_type, std::string_view data) {
  append_frame_text(out, event_type, data);
  append_frame_id(out, epoch, position);
}

void append_frame_text(std::string& out, std::string_view event_type, std::string_view data) {
  append_event(out, event_type);
  append_data(out, data);
}

void append_frame_id(std::string& out, std::string_view epoch, std::uint64_t position) {
  out += "id: ";
  append_event_id(out, epoch, position);
  out += "\n\n";
}

void append_retry(std::string& out, std::chrono::milliseconds retry) {
  out += "retry: ";
  out += std::to_string(retry.count());
  out += '\n';
}

void append_opening(std::string& out, std::chrono::milliseconds retry, std::string_view epoch,
                    std::uint64_t position, const std::vector<std::string>& channels) {
  std::string joined;
  std::string list;
  for (const std::string& channel : channels) {
    if (!joined.empty()) {
      joined += ',';
      list += ',';
    }
    joined += channel;
    list += json_string(channel);
  }
  append_retry(out, retry);
  out += R"(data: {"type":"connected","channel":)";
  out += json_string(joined);
  out += R"(,"position":")";
  out += std::to_string(position);
  out += '"';
  if (channels.size() > 1) {
    out += R"(,"channels":[)";
    out += list;
    out += ']';
  }
  out += "}\n";
  append_frame_id(out, epoch, position);
}

std::string_view to_string(ResetReason reason) {
  switch (reason) {
    case ResetReason::expired:
      return "expired";
    case ResetReason::epoch:
      return "epoch";
    case ResetReason::future:
      return "future";
    case ResetReason::invalid:
      return "invalid";
  }
  return "invalid";
}

void append_reset(std::string& out, std::string_view epoch, ResetReason reason,
                  std::string_view requested, std::uint64_t floor, std::uint64_t head) {
  // Cut before repairing, so that a huge value costs nothing, but leave a character room to end.
  const std::string clean = repair_utf8(requested.substr(0, kRequestedBytes + 3));
  out += R"(event: reset)";
  out += "\n";
  out += R"(data: {"reason":")";
  out += to_string(reason);
  out += R"(","requested":)";
  out += json_string(cut_utf8(clean, kRequestedBytes));
  out += R"(,"floor":")";
  out += std::to_string(floor);
  out += R"(","head":")";
  out += std::to_string(head);
  out += "\"}\n";
  append_frame_id(out, epoch, head);
}

std::string stream_head(std::string_view more_headers) {
  std::string out(kStreamHead);
  if (!more_headers.empty()) out.insert(out.size() - 2, more_headers);
  return out;
}

std::string come_back(std::chrono::milliseconds retry, std::string_view why,
                      std::string_view more_headers) {
  std::string out = stream_head(more_headers);
  append_retry(out, retry);
  if (!why.empty()) {
    out += ": ";
    const std::size_t start = out.size();
    out += repair_utf8(why);
    without_line_breaks(out, start);
    out += '\n';
  }
  out += '\n';
  return out;
}

std::chrono::milliseconds jittered(std::chrono::milliseconds retry, std::uint32_t random) {
  const auto spread = std::max<std::chrono::milliseconds::rep>(1, 2 * retry.count() + 1);
  return retry + std::chrono::milliseconds(random % spread);
}

}  // namespace spillway::sse
