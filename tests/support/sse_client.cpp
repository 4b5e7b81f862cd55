#include "tests/support/sse_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace spillway::test {
namespace {

int connect_to(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    throw std::runtime_error("cannot connect to port " + std::to_string(port));
  }
  return fd;
}

void send_all(int fd, const std::string& text) {
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t more = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (more <= 0) return;  // the reader will see the end
    sent += static_cast<std::size_t>(more);
  }
}

}  // namespace

std::uint64_t Frame::position() const {
  const std::size_t dash = id.rfind('-');
  return dash == std::string::npos ? 0 : std::strtoull(id.c_str() + dash + 1, nullptr, 10);
}

SseClient::SseClient(int port, const std::string& target, const std::string& last_event_id)
    : socket_(connect_to(port)) {
  std::string request =
      "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n";
  if (!last_event_id.empty()) request += "Last-Event-ID: " + last_event_id + "\r\n";
  send_all(socket_, request + "\r\n");
}

SseClient::SseClient(SseClient&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      ended_(other.ended_),
      head_(std::move(other.head_)),
      buffer_(std::move(other.buffer_)) {}

SseClient::~SseClient() {
  if (socket_ >= 0) close(socket_);
}

bool SseClient::fill(std::chrono::milliseconds most) {
  pollfd source{socket_, POLLIN, 0};
  if (poll(&source, 1, static_cast<int>(most.count())) <= 0) return false;
  std::array<char, 65536> bytes{};
  const ssize_t got = recv(socket_, bytes.data(), bytes.size(), 0);
  if (got <= 0) {
    ended_ = true;
    return false;
  }
  buffer_.append(bytes.data(), static_cast<std::size_t>(got));
  return true;
}

std::optional<Frame> SseClient::next(std::chrono::milliseconds most) {
  const auto deadline = std::chrono::steady_clock::now() + most;
  for (;;) {
    if (head_.empty()) {
      const std::size_t end = buffer_.find("\r\n\r\n");
      if (end != std::string::npos) {
        head_ = buffer_.substr(0, end + 4);
        buffer_.erase(0, end + 4);
      }
    }
    while (!head_.empty()) {
      const std::size_t end = buffer_.find("\n\n");
      if (end == std::string::npos) break;
      const std::string block = buffer_.substr(0, end + 1);
      buffer_.erase(0, end + 2);
      Frame frame;
      bool has_data = false;
      for (std::size_t begin = 0; begin < block.size();) {
        const std::size_t line_end = block.find('\n', begin);
        const std::string line = block.substr(begin, line_end - begin);
        begin = line_end + 1;
        const auto value = [&](const char* field) -> std::optional<std::string> {
          const std::string start = std::string(field) + ": ";
          if (!line.starts_with(start)) return std::nullopt;
          return line.substr(start.size());
        };
        if (const auto event = value("event")) frame.event = *event;
        if (const auto id = value("id")) frame.id = *id;
        if (const auto data = value("data")) {
          if (has_data) frame.data += '\n';
          frame.data += *data;
          has_data = true;
        }
      }
      if (has_data) return frame;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (ended_ || left.count() <= 0) return std::nullopt;
    fill(left);
  }
}

HttpAnswer http(int port, const std::string& method, const std::string& target,
                const std::string& body, const std::string& content_type) {
  const int fd = connect_to(port);
  std::string request =
      method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
  if (!body.empty())
    request += "Content-Type: " + content_type +
               "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  send_all(fd, request + "\r\n" + body);
  HttpAnswer answer;
  std::string text;
  std::array<char, 65536> bytes{};
  for (ssize_t got = 0; (got = recv(fd, bytes.data(), bytes.size(), 0)) > 0;)
    text.append(bytes.data(), static_cast<std::size_t>(got));
  close(fd);
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) throw std::runtime_error("no HTTP answer: " + text);
  answer.head = text.substr(0, end + 4);
  answer.body = text.substr(end + 4);
  answer.status = std::atoi(answer.head.c_str() + 9);
  return answer;
}

}  // namespace spillway::test
