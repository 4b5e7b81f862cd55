// What two processes of one program say to each other after a fork, one number at a time. Each side
// closes the end that it does not use. Errors: std::runtime_error. One thread on each side.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace spillway::bench {

class Pipe {
 public:
  Pipe() {
    if (::pipe(ends_.data()) != 0) throw std::runtime_error("pipe");
  }
  ~Pipe() {
    close_reader();
    close_writer();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  // `number` is 1 at least: 0 is what the other side hears at the end.
  void say(std::uint64_t number) const {
    if (::write(ends_[1], &number, sizeof number) != sizeof number)
      throw std::runtime_error("the other process has gone");
  }

  // 0 when the other side has closed its end.
  [[nodiscard]] std::uint64_t hear() const {
    std::uint64_t number = 0;
    return ::read(ends_[0], &number, sizeof number) == sizeof number ? number : 0;
  }

  void close_reader() { close(0); }
  void close_writer() { close(1); }

 private:
  void close(std::size_t end) {
    if (const int fd = std::exchange(ends_[end], -1); fd >= 0) ::close(fd);
  }

  std::array<int, 2> ends_{-1, -1};
};

}  // namespace spillway::bench
