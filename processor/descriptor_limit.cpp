#include "processor/descriptor_limit.hpp"

#include <spdlog/spdlog.h>
#include <sys/resource.h>

namespace spillway {

void raise_descriptor_limit(std::size_t connections_wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  if (limit.rlim_cur < connections_wanted)
    spdlog::warn(
        "this process may open {} files, fewer than --max-connections {}: raise the limit "
        "(LimitNOFILE= in a systemd unit, ulimit -Hn in a shell), or write fewer connections",
        limit.rlim_cur, connections_wanted);
}

}  // namespace spillway
