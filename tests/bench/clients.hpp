// Many stream clients on one thread: they count frames and do nothing else, so that what is
// measured is the server. Loopback only. Not thread-safe. Errors: std::runtime_error.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace spillway::bench {

struct Count {
  std::uint64_t frames =
      0;  // blank lines behind the head, so it fits every server's way of writing
  std::uint64_t bytes = 0;
};

class Clients {
 public:
  Clients();
  ~Clients();
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  // One more connection that asks for `target`; it is connected when this returns.
  void open(std::uint16_t port, const std::string& target);

  // Reads until every client has its head and `frames` frames of greeting (a connected frame, say),
  // then counts from zero.
  void await_greetings(std::uint64_t frames, std::chrono::seconds patience);

  // Reads until `frames` more have come in all, or throws when nothing comes for `patience`.
  void await_frames(std::uint64_t frames, std::chrono::seconds patience);

  [[nodiscard]] const Count& count() const { return count_; }
  [[nodiscard]] std::size_t size() const { return clients_.size(); }

 private:
  struct Client {
    int fd = -1;
    bool in_body = false;
    bool last_was_newline = false;
    std::uint64_t frames = 0;
    std::string head;
  };

  void pump(int timeout_ms);
  void take(Client& client, const char* bytes, std::size_t size);
  void pump_until(const std::function<bool()>& done, std::chrono::seconds patience);

  int epoll_ = -1;
  std::vector<Client> clients_;
  std::vector<char> buffer_;
  Count count_;
};

}  // namespace spillway::bench
