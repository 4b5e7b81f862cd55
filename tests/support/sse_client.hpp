// A plain SSE client over a socket, for tests: it keeps the bytes as they came, and the frames.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::test {

struct Frame {
  std::string event;  // "" when there was no event: line
  std::string data;
  std::string id;

  [[nodiscard]] std::uint64_t position() const;  // behind the dash of the id
};

class SseClient {
 public:
  // Sends the request; reading is up to the caller. Throws std::runtime_error when it cannot
  // connect.
  SseClient(int port, const std::string& target, const std::string& last_event_id = "");
  ~SseClient();
  SseClient(SseClient&& other) noexcept;
  SseClient& operator=(SseClient&&) = delete;
  SseClient(const SseClient&) = delete;
  SseClient& operator=(const SseClient&) = delete;

  // The next whole frame; none when the connection ended or nothing came in time (see ended()).
  std::optional<Frame> next(std::chrono::milliseconds most = std::chrono::seconds(10));
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] const std::string& head() const { return head_; }  // status line and headers

 private:
  bool fill(std::chrono::milliseconds most);

  int socket_ = -1;
  bool ended_ = false;
  std::string head_;
  std::string buffer_;
};

struct HttpAnswer {
  int status = 0;
  std::string head;
  std::string body;
};
// One request on a connection of its own (Connection: close).
HttpAnswer http(int port, const std::string& method, const std::string& target,
                const std::string& body = "", const std::string& content_type = "application/json");

}  // namespace spillway::test
