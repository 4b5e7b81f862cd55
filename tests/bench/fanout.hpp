// Fan-out: many clients; a server is told to send bursts of frames, each when all clients have the
// one before, and the time is taken until all have them all. Prints one JSON object:
// deliveries_per_s, seconds, frame_bytes, and of the time of publishing alone server_user_us,
// server_system_us (from /proc, in ticks of 10 ms) and client_us, per delivery. Starts a
// process, so it comes before any thread. Errors: std::runtime_error.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace spillway::bench {

struct FanoutOptions {
  std::string server = "hub";  // hub: spillway's; raw: one send per frame and client; nchan
  std::uint16_t port = 0;      // of Nchan, which runs already
  pid_t server_pid = 0;        // of its worker
  std::size_t clients = 1000;
  std::size_t channels = 1;   // clients are spread over them, each burst goes to all
  std::size_t frames = 1000;  // to each client
  std::size_t burst = 1;      // frames that are published together
  std::size_t bytes = 200;    // of data in a frame
  // Once all is ready {"server_pid":N} is printed and a line of stdin awaited, and another one when
  // the figures are out, so that the publishing alone can be traced.
  bool hold = false;
};

int run_fanout(const FanoutOptions& options);

}  // namespace spillway::bench
