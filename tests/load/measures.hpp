// What a process and its sockets cost, and how latencies are told. Linux only.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

namespace spillway::load {

// Memory of the process that is its own, in bytes (Pss_Anon of smaps_rollup).
[[nodiscard]] std::size_t own_memory(pid_t process);

// Of the sockets with this local port: bytes that wait in the kernel (tx_queue of /proc/net/tcp),
// and what all TCP sockets of the machine cost (mem of /proc/net/sockstat).
struct KernelMemory {
  std::size_t queued = 0;
  std::size_t largest_queue = 0;
  std::size_t all_tcp = 0;
};
[[nodiscard]] KernelMemory kernel_memory(int port);

// "p50 1.2 ms, p99 3.4 ms, max 5.6 ms (1000 frames)".
struct Latency {
  double p50 = 0, p99 = 0, max = 0;
  std::size_t frames = 0;
};
[[nodiscard]] Latency latency_of(std::vector<double> seconds);
[[nodiscard]] std::string to_string(const Latency& latency);
[[nodiscard]] std::string kilobytes(std::size_t bytes);

}  // namespace spillway::load
