#include "tests/load/measures.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace spillway::load {

std::size_t own_memory(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/smaps_rollup");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with("Pss_Anon:")) return std::stoul(line.substr(9)) * 1024;
  return 0;
}

KernelMemory kernel_memory(int port) {
  KernelMemory memory;
  std::ifstream tcp("/proc/net/tcp");
  std::string line;
  std::getline(tcp, line);
  char wanted[8];
  std::snprintf(wanted, sizeof wanted, ":%04X", static_cast<unsigned>(port));
  while (std::getline(tcp, line)) {
    std::istringstream fields(line);
    std::string number, local, remote, state, queues;
    fields >> number >> local >> remote >> state >> queues;
    if (!local.ends_with(wanted) || state != "01") continue;
    const std::size_t queued = std::stoul(queues.substr(0, 8), nullptr, 16);
    memory.queued += queued;
    memory.largest_queue = std::max(memory.largest_queue, queued);
  }
  std::ifstream sockstat("/proc/net/sockstat");
  while (std::getline(sockstat, line))
    if (const auto at = line.find(" mem "); line.starts_with("TCP:") && at != std::string::npos)
      memory.all_tcp = std::stoul(line.substr(at + 5)) * 4096;
  return memory;
}

Latency latency_of(std::vector<double> seconds) {
  Latency latency;
  latency.frames = seconds.size();
  if (seconds.empty()) return latency;
  std::sort(seconds.begin(), seconds.end());
  latency.p50 = seconds[seconds.size() / 2];
  latency.p99 = seconds[seconds.size() * 99 / 100];
  latency.max = seconds.back();
  return latency;
}

std::string to_string(const Latency& latency) {
  char text[160];
  std::snprintf(text, sizeof text, "p50 %.2f ms, p99 %.2f ms, max %.2f ms (%zu frames)",
                latency.p50 * 1e3, latency.p99 * 1e3, latency.max * 1e3, latency.frames);
  return text;
}

std::string kilobytes(std::size_t bytes) {
  return std::to_string(bytes / 1024) + " KiB";
}

}  // namespace spillway::load
