#include "processor/cli/supervise.hpp"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>

namespace spillway::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// After the worker's own time for stopping.
constexpr milliseconds grace{500};

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

// The next signal, or 0 when the time is over.
int next_signal(const sigset_t& signals, milliseconds most) {
  const timespec time{most.count() / 1000, (most.count() % 1000) * 1'000'000};
  const int signal = sigtimedwait(&signals, nullptr, &time);
  return signal < 0 ? 0 : signal;
}

SharedWithWorker* share() {
  void* memory = mmap(nullptr, sizeof(SharedWithWorker), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  return new (memory) SharedWithWorker;
}

class Supervisor {
 public:
  explicit Supervisor(milliseconds shutdown_timeout)
      : shutdown_timeout_(shutdown_timeout), signals_(watched_signals()), shared_(share()) {
    sigprocmask(SIG_BLOCK, &signals_, &mask_before_);
  }

  Supervision run() {
    for (;;) {
      const pid_t supervisor = getpid();
      shared_->ready = false;
      const auto begin = steady_clock::now();
      child_ = fork();
      if (child_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
      if (child_ == 0) return become_worker(supervisor);
      const ChildEnd end = watch();
      was_ready_ = was_ready_ || shared_->ready;
      if (stopping_) {
        if (end.signalled) spdlog::error("the worker ({}) {}", end.pid, describe(end));
        return {exit_code_of(end), nullptr, {}};
      }
      if (!worth_a_restart(end, was_ready_)) {
        if (exit_code_of(end) != 0)
          spdlog::error("the worker ({}) {}, which a restart would not mend", end.pid,
                        describe(end));
        return {exit_code_of(end), nullptr, {}};
      }
      const milliseconds pause =
          delay_.next(std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin));
      spdlog::error("the worker ({}) {}; the next one starts in {} ms", end.pid, describe(end),
                    pause.count());
      previous_ = end;
      if (stopped_during(pause)) return {0, nullptr, {}};
    }
  }

 private:
  Supervision become_worker(pid_t supervisor) {
    // A terminal's Ctrl-C reaches the supervisor alone, which passes it on: twice would mean "at
    // once".
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != supervisor) raise(SIGTERM);  // it was gone before that
    sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
    return {std::nullopt, shared_, previous_};
  }

  // Passes signals on until the worker has ended.
  ChildEnd watch() {
    std::optional<steady_clock::time_point> deadline;
    for (;;) {
      int status = 0;
      if (waitpid(child_, &status, WNOHANG) == child_)
        return {child_, WIFSIGNALED(status),
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)};
      const int signal = next_signal(signals_, milliseconds(200));
      if (signal == SIGTERM || signal == SIGINT || signal == SIGHUP) kill(child_, signal);
      if (signal == SIGTERM || signal == SIGINT) {
        stopping_ = true;
        if (!deadline) deadline = steady_clock::now() + shutdown_timeout_ + grace;
      }
      if (deadline && steady_clock::now() > *deadline) kill(child_, SIGKILL);
    }
  }

  bool stopped_during(milliseconds pause) {
    const auto end = steady_clock::now() + pause;
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
      if (left.count() <= 0) return false;
      const int signal = next_signal(signals_, left);
      if (signal == SIGTERM || signal == SIGINT) return true;
    }
  }

  milliseconds shutdown_timeout_;
  sigset_t signals_;
  sigset_t mask_before_{};
  SharedWithWorker* shared_;  // for as long as the processes live
  pid_t child_ = 0;
  bool stopping_ = false;
  bool was_ready_ = false;
  RestartDelay delay_;
  std::optional<ChildEnd> previous_;
};

}  // namespace

std::string describe(const ChildEnd& end) {
  if (!end.signalled) return "ended with exit code " + std::to_string(end.number);
  const char* name = sigabbrev_np(end.number);
  return "was ended by " +
         (name != nullptr ? "SIG" + std::string(name) : "signal " + std::to_string(end.number));
}

int exit_code_of(const ChildEnd& end) {
  return end.signalled ? 128 + end.number : end.number;
}

bool worth_a_restart(const ChildEnd& end, bool was_ready) {
  if (end.signalled) return true;
  switch (end.number) {
    case 0:  // done
    case 2:  // usage or configuration
    case 4:  // the schema's version
      return false;
    case 3:  // the database cannot be reached
      return was_ready;
    default:
      return true;
  }
}

milliseconds RestartDelay::next(milliseconds lived) {
  if (lived >= milliseconds(60'000)) delay_ = milliseconds(0);
  delay_ = std::clamp(delay_ * 2, milliseconds(100), milliseconds(10'000));
  return delay_;
}

Supervision supervise(milliseconds shutdown_timeout) {
  return Supervisor(shutdown_timeout).run();
}

}  // namespace spillway::cli
