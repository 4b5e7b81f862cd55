// A server of streams in a process of its own, so that its CPU is its own: spillway's hub and
// server, or a bare loop of one send for each frame and client, which writes the same bytes. It
// publishes when it is told to, and ends with the object, or with this process. Not thread-safe; to
// be made before this process has threads. Errors: std::runtime_error.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/bench/pipe.hpp"

namespace spillway::bench {

enum class ServerKind { hub, raw };

struct Frames {
  std::size_t clients = 0;   // that the bare loop waits for before it publishes
  std::size_t channels = 1;  // each frame of a burst goes to all of them
  std::size_t bytes = 0;     // of data in a frame
};

class FanoutServer {
 public:
  FanoutServer(ServerKind kind, const Frames& frames);
  ~FanoutServer();
  FanoutServer(const FanoutServer&) = delete;
  FanoutServer& operator=(const FanoutServer&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  void publish(std::size_t burst) const { orders_.say(burst); }

 private:
  Pipe orders_;
  Pipe answers_;
  pid_t pid_ = -1;
  std::uint16_t port_ = 0;
};

// The channel that client or frame `number` is of.
[[nodiscard]] std::string channel_name(std::size_t number);

}  // namespace spillway::bench
