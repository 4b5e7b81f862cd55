#include "tests/torture/guardian.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace spillway::torture {
namespace {

namespace fs = std::filesystem;

// Workers are told of files in the scratch folder, so its name, which is unique, is in their
// command line.
void kill_workers(const std::string& scratch) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    const std::string command{std::istreambuf_iterator<char>(file), {}};
    const std::string program = command.substr(0, command.find('\0'));
    if (!program.ends_with("/spillway") || command.find(scratch + "/") == std::string::npos)
      continue;
    kill(static_cast<pid_t>(std::atoi(name.c_str())), SIGKILL);
  }
}

void stop_server(const fs::path& scratch) {
  std::ifstream file(scratch / "server" / "pg" / "data" / "postmaster.pid");
  pid_t server = 0;
  if (!(file >> server) || server <= 1) return;
  kill(server, SIGQUIT);  // immediate mode
  for (int i = 0; i < 1000 && kill(server, 0) == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

void remove_folder(const fs::path& scratch) {
  std::error_code ignored;
  const fs::path data = scratch / "server" / "pg";
  if (fs::is_symlink(data, ignored)) fs::remove_all(fs::read_symlink(data, ignored), ignored);
  fs::remove_all(scratch, ignored);
}

}  // namespace

Guardian::Guardian(const fs::path& scratch) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child > 0) {
    close(ends[0]);
    return;  // the writing end closes with this process
  }
  setsid();  // a terminal's Ctrl-C is for the torture
  close(ends[1]);
  // Whoever reads the torture's output must not wait for us.
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, fd);
  char byte = 0;
  while (read(ends[0], &byte, 1) < 0 && errno == EINTR) {
  }
  kill_workers(scratch.string());
  stop_server(scratch);
  remove_folder(scratch);
  _exit(0);
}

}  // namespace spillway::torture
