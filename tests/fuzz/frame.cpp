// Frames: whatever a handler broadcasts, a parser written after the standard gets the type, the
// data and the id back, and one frame of it.
#include <array>
#include <string>
#include <vector>

#include "sse/frame.hpp"
#include "sse/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace spillway::sse;
using spillway::fuzz::insist;

namespace {

struct Message {
  std::string type;
  std::string data;
  std::string id;
};

// HTML, 9.2.6 "Interpreting an event stream", field by field.
class Parser {
 public:
  void feed(std::string_view stream) {
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t end = stream.find_first_of("\r\n", at);
      if (end == std::string_view::npos) return;  // the rest of an unfinished line
      line(stream.substr(at, end - at));
      at =
          end + (stream[end] == '\r' && end + 1 < stream.size() && stream[end + 1] == '\n' ? 2 : 1);
    }
  }
  std::vector<Message> messages;

 private:
  void line(std::string_view text) {
    if (text.empty()) return dispatch();
    if (text.front() == ':') return;
    const std::size_t colon = text.find(':');
    const std::string_view field = text.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? "" : text.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "event") type_ = value;
    if (field == "data") (data_ += value) += '\n';
    if (field == "id" && value.find('\0') == std::string_view::npos) id_ = value;
  }
  void dispatch() {
    if (!data_.empty()) {
      data_.pop_back();
      messages.push_back({type_, data_, id_});
    }
    data_.clear();
    type_.clear();
  }
  std::string type_, data_, id_;
};

std::string with_newlines(std::string_view data) {
  std::string out;
  for (std::size_t i = 0; i < data.size(); ++i) {
    if (data[i] != '\r') {
      out += data[i];
    } else {
      out += '\n';
      if (i + 1 < data.size() && data[i + 1] == '\n') ++i;
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  std::string_view data = spillway::fuzz::text_of(bytes, size);
  const std::string_view type = spillway::fuzz::take_line(data);
  const std::uint64_t position = size * 0x9e3779b97f4a7c15u;
  std::string out;
  append_frame(out, "e0", position, type, data);
  append_frame(out, "e0", position + 1, "", "behind it");
  insist(valid_utf8(out), "a frame is UTF-8");

  Parser parser;
  parser.feed(out);
  insist(parser.messages.size() == 2, "one broadcast is one message");
  const Message& first = parser.messages.front();
  std::string expected_type = repair_utf8(type);
  for (char& c : expected_type)
    if (c == '\r' || c == '\0') c = ' ';
  insist(first.type == expected_type, "the type comes back");
  insist(first.data == with_newlines(repair_utf8(data)), "the data comes back");
  insist(first.id == "e0-" + std::to_string(position), "the id comes back");
  insist(parser.messages.back().type.empty() && parser.messages.back().data == "behind it",
         "what comes behind is untouched");

  // Cut anywhere, it has moved no id and given no message.
  Parser cut;
  const std::string frame = out.substr(0, out.find("\n\n") + 2);
  cut.feed(std::string_view(frame).substr(0, position % frame.size()));
  insist(cut.messages.empty(), "half a frame is no message");

  std::string rest;
  append_reset(rest, "e0", ResetReason::invalid, data, 1, 2);
  append_opening(rest, std::chrono::milliseconds(2000), "e0", 7, {std::string(type), "B:1"});
  insist(valid_utf8(rest), "frames of the stream's own are UTF-8");
  Parser own;
  own.feed(rest);
  insist(own.messages.size() == 2 && own.messages.front().type == "reset", "they are two messages");
  return 0;
}
