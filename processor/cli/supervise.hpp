// `run --supervise`: the process becomes two, a supervisor and the worker, which is started again
// when it ends uncleanly.
//
// Call it before any thread exists, with the signals blocked (block_signals). One thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace spillway::cli {

// How a process ended, and what is to be done about it. Pure.
struct ChildEnd {
  int pid = 0;
  bool signalled = false;
  int number = 0;  // the signal, or the exit code
};
// "was ended by SIGSEGV", "ended with exit code 1".
[[nodiscard]] std::string describe(const ChildEnd& end);
// The exit code for whoever started the supervisor: 128 + signal for a killed one.
[[nodiscard]] int exit_code_of(const ChildEnd& end);
// Whether a new one would fare better. A wrong option, or a schema of another version, stays as it
// is; a database that cannot be reached is waited for, unless it was not there to begin with.
[[nodiscard]] bool worth_a_restart(const ChildEnd& end, bool was_ready);

// The pauses between an end and the next start: 100 ms, doubled each time up to 10 s, from the
// beginning again after a minute of health. Pure.
class RestartDelay {
 public:
  [[nodiscard]] std::chrono::milliseconds next(std::chrono::milliseconds lived);

 private:
  std::chrono::milliseconds delay_{0};
};

// What the worker and its supervisor both see.
struct SharedWithWorker {
  std::atomic<bool> ready{false};
  static constexpr std::size_t kListeners = 16;
  // That the worker listens on, one for each --listen; 0: not known, or a Unix socket.
  std::array<std::atomic<std::uint16_t>, kListeners> ports{};
};

struct Supervision {
  // In the supervisor: everything is over, exit with this.
  std::optional<int> exit_code;
  // In the worker:
  SharedWithWorker* shared = nullptr;
  std::optional<ChildEnd> previous;  // the worker before this one
};

// Returns in every worker, and in the supervisor at the end. The worker ends with the supervisor,
// however that ends.
[[nodiscard]] Supervision supervise(std::chrono::milliseconds shutdown_timeout);

}  // namespace spillway::cli
