#include "processor/cli/dead_text.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace spillway::cli {
namespace {

bool continues(char byte) {  // of a UTF-8 character
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

std::size_t length_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !continues(byte); }));
}

// `kept`: control characters that stay.
std::string harmless(std::string_view text, std::string_view kept = {}) {
  std::string shown;
  shown.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 = byte == 0xC2U && i + 1 < text.size() &&
                    static_cast<unsigned char>(text[i + 1]) < 0xA0U;  // U+0080 to U+009F
    const bool control = byte < 0x20U || byte == 0x7FU || c1;
    if (c1) ++i;
    shown += control && kept.find(text[i]) == std::string_view::npos ? ' ' : text[i];
  }
  return shown;
}

std::string cut(const std::string& line, std::optional<std::size_t> width) {
  if (!width || length_of(line) <= *width) return line;
  std::size_t end = 0;
  for (std::size_t left = *width - std::min<std::size_t>(*width, 1); end < line.size(); ++end)
    if (!continues(line[end]) && left-- == 0) break;
  return line.substr(0, end) + "…";
}

// Columns as wide as their widest entry, but for the last.
template <std::size_t Columns>
std::string aligned(const std::vector<std::array<std::string, Columns>>& rows,
                    std::optional<std::size_t> width) {
  std::array<std::size_t, Columns> widths{};
  for (const auto& row : rows)
    for (std::size_t i = 0; i < Columns; ++i) widths[i] = std::max(widths[i], length_of(row[i]));
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < Columns; ++i) {
      line += row[i];
      if (i + 1 < Columns) line += std::string(widths[i] - length_of(row[i]) + 2, ' ');
    }
    text += cut(line, width) + "\n";
  }
  return text;
}

std::string seconds_of(const std::string& time) {  // without the fraction
  const auto dot = time.find('.');
  return dot == std::string::npos ? time : time.substr(0, dot) + "Z";
}

std::string beginning_of(const DeadLetter& letter) {
  return "event " + std::to_string(letter.event_id) + " (" + letter.type + "): ";
}

std::string indented(const std::string& text) {
  std::string lines = "  ";
  for (const char c : text) {
    lines += c;
    if (c == '\n') lines += "  ";
  }
  return lines + "\n";
}

}  // namespace

std::string to_table(const std::vector<DeadLetter>& letters, std::optional<std::size_t> width) {
  std::vector<std::array<std::string, 6>> rows;
  rows.push_back({"EVENT", "TYPE", "STREAM", "ATTEMPTS", "FAILED AT", "ERROR"});
  for (const DeadLetter& letter : letters) {
    std::string error = letter.error;
    const std::string beginning = beginning_of(letter);
    if (width && error.starts_with(beginning)) error.erase(0, beginning.size());
    rows.push_back({std::to_string(letter.event_id), harmless(letter.type),
                    letter.stream ? harmless(*letter.stream) : "-", std::to_string(letter.attempts),
                    seconds_of(letter.failed_at), harmless(error)});
  }
  return aligned(rows, width);
}

std::string to_table(const std::vector<DeadGroup>& groups, std::optional<std::size_t> width) {
  std::vector<std::array<std::string, 5>> rows;
  rows.push_back({"COUNT", "TYPE", "LAST", "E.G. EVENT", "ERROR"});
  for (const DeadGroup& group : groups)
    rows.push_back({std::to_string(group.count), harmless(group.type),
                    seconds_of(group.last_failed_at), std::to_string(group.last_event_id),
                    harmless(group.error)});
  return aligned(rows, width);
}

std::string to_text(const DeadEvent& event) {
  const DeadLetter& letter = event.letter;
  const std::string id = std::to_string(letter.event_id);
  std::vector<std::array<std::string, 2>> facts{{"event", id}, {"type", harmless(letter.type)}};
  if (letter.stream) {
    std::string stream = harmless(*letter.stream);
    if (event.stream_version) stream += ", version " + std::to_string(*event.stream_version);
    facts.push_back({"stream", stream});
  }
  facts.push_back({"correlation id", event.correlation_id});
  if (event.causation_id)
    facts.push_back({"caused by", "event " + std::to_string(*event.causation_id)});
  if (event.idempotency_key) facts.push_back({"idempotency key", harmless(*event.idempotency_key)});
  if (event.priority != 0) facts.push_back({"priority", std::to_string(event.priority)});
  facts.push_back({"enqueued at", event.created_at});
  if (event.execute_at > event.created_at) facts.push_back({"due at", event.execute_at});
  facts.push_back({"died at", letter.failed_at});
  std::string attempts = std::to_string(letter.attempts);
  if (event.max_attempts) attempts += " of its own " + std::to_string(*event.max_attempts);
  facts.push_back({"attempts", attempts});
  if (letter.sqlstate) facts.push_back({"SQLSTATE", *letter.sqlstate});
  if (letter.holds_stream)
    facts.push_back(
        {"holds back",
         std::to_string(event.held) + (event.held == 1 ? " event" : " events") + " of its stream"});

  std::string text = aligned(facts, std::nullopt);
  text += "error\n" + indented(harmless(letter.error, "\n\t"));
  text += "payload\n" + indented(harmless(event.payload, "\n"));
  text += "context\n" + indented(harmless(event.context, "\n"));
  std::vector<std::array<std::string, 2>> next{
      {"  spillway try --event " + id + " --handlers PATH",
       "what the handlers give for it now; applies nothing"},
      {"  spillway dead retry " + id, "again, with all its attempts"},
      {"  spillway dead discard " + id, "given up for good; it stays in the log"},
      {"  spillway trace " + event.correlation_id, "what it belongs to"}};
  return text + "next\n" + aligned(next, std::nullopt);
}

}  // namespace spillway::cli
