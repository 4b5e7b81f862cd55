#include "processor/process_metrics.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

namespace spillway {
namespace {

// Seconds since 1970 at which the system was started.
std::optional<double> boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

struct Stat {
  double user_ticks = 0;
  double system_ticks = 0;
  double start_ticks = 0;
  double virtual_bytes = 0;
  double resident_pages = 0;
};

// proc(5): fields are counted behind the name, which may hold anything.
std::optional<Stat> read_stat() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  Stat stat;
  std::string field;
  for (int number = 3; fields >> field; ++number) {
    double* value = number == 14   ? &stat.user_ticks
                    : number == 15 ? &stat.system_ticks
                    : number == 22 ? &stat.start_ticks
                    : number == 23 ? &stat.virtual_bytes
                    : number == 24 ? &stat.resident_pages
                                   : nullptr;
    if (value != nullptr) *value = std::stod(field);
    if (number == 24) return stat;
  }
  return std::nullopt;
}

std::optional<double> open_descriptors() {
  std::error_code error;
  std::filesystem::directory_iterator next("/proc/self/fd", error);
  if (error) return std::nullopt;
  double count = -1;  // the one that is open for this
  for (; next != std::filesystem::directory_iterator() && !error; next.increment(error)) ++count;
  return count;
}

}  // namespace

void add_process_metrics(MetricFamilies& families) {
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (const auto stat = read_stat()) {
    families.counter("process_cpu_seconds_total",
                     "Total user and system CPU time spent in seconds.",
                     (stat->user_ticks + stat->system_ticks) / ticks);
    families.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.",
                   stat->virtual_bytes);
    families.gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
                   stat->resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
    if (const auto boot = boot_time())
      families.gauge("process_start_time_seconds",
                     "Start time of the process since unix epoch in seconds.",
                     *boot + stat->start_ticks / ticks);
  }
  if (const auto open = open_descriptors())
    families.gauge("process_open_fds", "Number of open file descriptors.", *open);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    families.gauge("process_max_fds", "Maximum number of open file descriptors.",
                   static_cast<double>(limit.rlim_cur));
}

}  // namespace spillway
