#include "tests/support/process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

extern char** environ;

namespace spillway::test {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::filesystem::path fresh_path(const std::string& ending) {
  static std::atomic<int> numbers{0};
  return scratch_folder() / (std::to_string(++numbers) + ending);
}

}  // namespace

Process::Process(const std::vector<std::string>& command,
                 const std::map<std::string, std::string>& environment)
    : output_(fresh_path(".out")), errors_(fresh_path(".err")) {
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  // What is in the tests' own environment must not decide what is tested.
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (text.starts_with("SPILLWAY_") || text.starts_with("DATABASE_URL=") ||
        text.starts_with("PG"))
      continue;
    if (environment.contains(text.substr(0, text.find('=')))) continue;
    variables.push_back(text);
  }
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  std::vector<char*> block;
  for (auto& text : variables) block.push_back(text.data());
  block.push_back(nullptr);

  const int out = open(output_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const int err = open(errors_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execvpe(arguments[0], arguments.data(), block.data());
    _exit(127);
  }
  close(out);
  close(err);
}

Process::~Process() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  wait();
}

void Process::signal(int number) const {
  if (!exit_code_) ::kill(pid_, number);
}

bool Process::running() {
  if (exit_code_) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

std::optional<int> Process::wait(std::chrono::milliseconds most) {
  eventually([&] { return !running(); }, most);
  return exit_code_;
}

std::string Process::output() const {
  return read_file(output_);
}
std::string Process::errors() const {
  return read_file(errors_);
}

Finished run(const std::vector<std::string>& command,
             const std::map<std::string, std::string>& environment) {
  Process process(command, environment);
  const auto code = process.wait(std::chrono::seconds(60));
  return {code.value_or(-1), process.output(), process.errors()};
}

std::string spillway_binary() {
  return SPILLWAY_BINARY;
}
std::string comments_library() {
  return SPILLWAY_COMMENTS;
}

Worker::Worker(const std::string& database_url, std::vector<std::string> options)
    : port_file_(fresh_path(".port")) {
  std::vector<std::string> command{spillway_binary(), "run",         "--database-url",
                                   database_url,      "--port-file", port_file_.string()};
  bool listens = false;
  for (const auto& option : options) listens = listens || option.starts_with("--listen");
  if (!listens) command.insert(command.end(), {"--listen", "127.0.0.1:0"});
  command.insert(command.end(), options.begin(), options.end());
  process_.emplace(command);
}

void Worker::wait_until_ready() {
  const bool is_ready = eventually([&] {
    if (!process_->running()) throw std::runtime_error("the worker ended: " + process_->errors());
    return ready();
  });
  if (!is_ready) throw std::runtime_error("the worker is not ready: " + process_->errors());
}

bool Worker::ready() {
  if (port_ != 0) return true;
  if (!std::filesystem::exists(port_file_)) return false;
  port_ = std::stoi(read_file(port_file_));
  return true;
}

void Worker::kill() {
  process_->signal(SIGKILL);
  process_->wait();
}

std::optional<int> Worker::stop() {
  process_->signal(SIGTERM);
  return process_->wait();
}

}  // namespace spillway::test
