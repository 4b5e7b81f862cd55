// Child processes for tests: started, signalled, killed, waited for.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace spillway::test {

class Process {
 public:
  // stdout and stderr go to files, which output() and errors() read.
  Process(const std::vector<std::string>& command,
          const std::map<std::string, std::string>& environment = {});
  ~Process();  // SIGKILL, if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void signal(int number) const;
  // The exit code, 128 + signal for a killed one; none if it still runs after `most`.
  std::optional<int> wait(std::chrono::milliseconds most = std::chrono::seconds(20));
  [[nodiscard]] bool running();
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::string output() const;
  [[nodiscard]] std::string errors() const;

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
  std::filesystem::path output_;
  std::filesystem::path errors_;
};

struct Finished {
  int exit_code = -1;
  std::string output;
  std::string errors;
};
// Runs to the end.
Finished run(const std::vector<std::string>& command,
             const std::map<std::string, std::string>& environment = {});

// The spillway binary and the example's handler library, as built.
std::string spillway_binary();
std::string comments_library();

// A `spillway run` on a free port.
class Worker {
 public:
  Worker(const std::string& database_url, std::vector<std::string> options = {});

  // Blocks until it serves streams, or throws with what it wrote.
  void wait_until_ready();
  // Without waiting; port() is known once it is true.
  [[nodiscard]] bool ready();
  [[nodiscard]] int port() const { return port_; }
  Process& process() { return *process_; }
  void kill();                // SIGKILL, and waits
  std::optional<int> stop();  // SIGTERM; the exit code

 private:
  std::filesystem::path port_file_;
  std::optional<Process> process_;
  int port_ = 0;
};

}  // namespace spillway::test
