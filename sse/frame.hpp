// The bytes of a stream: a pure encoder, no I/O. Everything a client sees on a stream is built
// here.
//
// A frame is `event: T` (only with a type), one `data: ` line for each line of the data (CRLF, CR
// and LF all end a line; empty data is one empty line, `data: `), then `id:` — last, because some
// clients take the id over at that line and would skip a frame that was cut behind it — and a blank
// line. What cannot stand in a frame is replaced, not refused: CR, LF and NUL in a type become a
// space, and bytes that are not UTF-8 become U+FFFD.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::sse {

// The head of a stream's response; the body ends with the connection.
inline constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/event-stream\r\n"
    "Cache-Control: no-store, no-transform\r\n"
    "X-Accel-Buffering: no\r\n"
    "Connection: close\r\n"
    "\r\n";

// The same with more lines, each with its end, for pages of other origins.
[[nodiscard]] std::string stream_head(std::string_view more_headers);

// One newline only: with a blank line behind it some clients fire an empty message.
inline constexpr std::string_view kHeartbeat = ":\n";

void append_frame(std::string& out, std::string_view epoch, std::uint64_t position,
                  std::string_view event_type, std::string_view data);
// Its two parts: what it says, and where it stands.
void append_frame_text(std::string& out, std::string_view event_type, std::string_view data);
void append_frame_id(std::string& out, std::string_view epoch, std::uint64_t position);

// `retry:` and the connected frame, as one block.
void append_opening(std::string& out, std::chrono::milliseconds retry, std::string_view epoch,
                    std::uint64_t position, const std::vector<std::string>& channels);

enum class ResetReason {
  expired,  // older than what is kept
  epoch,    // of another line of positions
  future,   // after everything that was ever broadcast
  invalid,  // not an id
};

[[nodiscard]] std::string_view to_string(ResetReason reason);

// Tells the client that what it asked for cannot be continued: load the state anew, then go on live
// from `head`. `requested` is what the client sent, cut to 64 bytes.
void append_reset(std::string& out, std::string_view epoch, ResetReason reason,
                  std::string_view requested, std::uint64_t floor, std::uint64_t head);

// Sets the client's reconnection time and nothing else.
void append_retry(std::string& out, std::chrono::milliseconds retry);

// A whole response that tells the client to come back later. EventSource gives up for good on an
// error status, so it is a stream that ends. `why` is for people: a comment, which clients skip;
// what would end its line becomes a space.
[[nodiscard]] std::string come_back(std::chrono::milliseconds retry, std::string_view why = {},
                                    std::string_view more_headers = {});

// `retry` spread over one to three times its value by `random`, so that those who were sent away
// together do not return together.
[[nodiscard]] std::chrono::milliseconds jittered(std::chrono::milliseconds retry,
                                                 std::uint32_t random);

// `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string json_string(std::string_view text);

}  // namespace spillway::sse
