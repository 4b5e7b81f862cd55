#include "processor/private_postgres.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <system_error>

#include "processor/pg_connection.hpp"

namespace fs = std::filesystem;

namespace spillway {
namespace {

// The longest path of a Unix socket is 107 bytes; this is what the server adds to the folder's.
constexpr std::size_t longest_socket_folder = 107 - sizeof("/.s.PGSQL.5432.lock");

std::string percent_encoded(const std::string& text) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '~') {
      encoded += c;
    } else {
      std::array<char, 4> code{};
      std::snprintf(code.data(), code.size(), "%%%02X", byte);
      encoded += code.data();
    }
  }
  return encoded;
}

// Debian keeps the server's programs out of PATH, a folder for each version: the newest.
fs::path find_programs() {
  std::vector<std::pair<int, fs::path>> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", none))
    if (fs::exists(entry.path() / "bin" / "postgres"))
      found.emplace_back(std::atoi(entry.path().filename().c_str()), entry.path() / "bin");
  if (!found.empty()) return std::max_element(found.begin(), found.end())->second;
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread
  std::string folders = path == nullptr ? "" : path;
  for (std::size_t begin = 0; begin < folders.size();) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    const fs::path folder = folders.substr(begin, end - begin);
    if (fs::exists(folder / "initdb") && fs::exists(folder / "pg_ctl")) return folder;
    begin = end + 1;
  }
  throw std::runtime_error(
      "no PostgreSQL server is installed (looked in /usr/lib/postgresql/*/bin and PATH); install "
      "the package `postgresql`, or name a database with DATABASE_URL");
}

// Runs a program as the given user, in a folder; returns its exit code and what it printed.
int run_program(const std::vector<std::string>& command, const fs::path& folder,
                const std::optional<std::pair<unsigned, unsigned>>& user, std::string* output) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
    // A terminal's Ctrl-C is for the worker, which then stops the server in order.
    setsid();
    sigset_t all;
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    if (user &&
        (setgroups(0, nullptr) != 0 || setgid(user->second) != 0 || setuid(user->first) != 0))
      _exit(126);
    if (chdir(folder.c_str()) != 0) _exit(125);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = read(ends[0], buffer.data(), buffer.size())) != 0;) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (output != nullptr) *output = text;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool can_enter(const fs::path& folder, const std::optional<std::pair<unsigned, unsigned>>& user) {
  return run_program({"/bin/true"}, folder, user, nullptr) == 0;
}

std::string short_hash(const std::string& text) {
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016zx", std::hash<std::string>{}(text));
  return digits.data();
}

void make_private_folder(const fs::path& folder,
                         const std::optional<std::pair<unsigned, unsigned>>& user) {
  fs::create_directories(folder);
  if (user && chown(folder.c_str(), user->first, user->second) != 0)
    throw std::system_error(errno, std::generic_category(), "chown " + folder.string());
  fs::permissions(folder, fs::perms::owner_all);
}

}  // namespace

PrivatePostgres::PrivatePostgres(fs::path folder)
    : folder_(fs::absolute(std::move(folder)).lexically_normal()), programs_(find_programs()) {
  if (geteuid() == 0) {
    const passwd* user = getpwnam("postgres");       // NOLINT(concurrency-mt-unsafe)
    if (user == nullptr) user = getpwnam("nobody");  // NOLINT(concurrency-mt-unsafe)
    if (user == nullptr)
      throw std::runtime_error("PostgreSQL does not run as root, and there is no user `postgres`");
    user_ = {user->pw_uid, user->pw_gid};
  }
  fs::create_directories(folder_);
  choose_home();
}

void PrivatePostgres::choose_home() {
  const fs::path data = folder_ / "pg";
  if (fs::is_symlink(data)) {
    home_ = fs::read_symlink(data);
    make_private_folder(home_, user_);  // /var/tmp may have been emptied
  } else {
    home_ = data;
    make_private_folder(home_, user_);
    if (!can_enter(home_, user_)) {
      fs::remove(home_);
      home_ = fs::path("/var/tmp") / ("spillway-" + short_hash(folder_.string()));
      make_private_folder(home_, user_);
      fs::create_directory_symlink(home_, data);
    }
  }
  sockets_ = home_ / "socket";
  if (sockets_.string().size() > longest_socket_folder)
    sockets_ = fs::path("/tmp") / ("spillway-" + short_hash(folder_.string()));
  make_private_folder(sockets_, user_);
}

int PrivatePostgres::pg_ctl(std::vector<std::string> arguments, std::string* output) {
  std::vector<std::string> command{(programs_ / "pg_ctl").string(), "-D", (home_ / "data").string(),
                                   "-s"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_program(command, home_, user_, output);
}

bool PrivatePostgres::running() {
  return fs::exists(home_ / "data" / "PG_VERSION") && pg_ctl({"status"}) == 0;
}

void PrivatePostgres::initialise() {
  // Into a temporary name first, so that an interrupted initdb leaves nothing half done.
  const fs::path fresh = home_ / "data.new";
  fs::remove_all(fresh);
  std::string output;
  if (run_program({(programs_ / "initdb").string(), "-D", fresh.string(), "-U", "postgres",
                   "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"},
                  home_, user_, &output) != 0)
    throw std::runtime_error("initdb failed:\n" + output);
  std::ofstream(fresh / "postgresql.conf", std::ios::app)
      << "\ninclude_if_exists 'spillway.conf'\n";
  fs::rename(fresh, home_ / "data");
}

void PrivatePostgres::start(const std::vector<std::string>& settings) {
  if (!fs::exists(home_ / "data" / "PG_VERSION")) initialise();
  if (!running()) {
    std::ofstream conf(home_ / "data" / "spillway.conf");
    std::string path;  // in double quotes, for a comma or space; ' and " doubled for their levels
    for (const char c : sockets_.string()) {
      path += c;
      if (c == '\'' || c == '"') path += c;
    }
    conf << "listen_addresses = ''\nport = 5432\nunix_socket_permissions = 0700\n"
         << "unix_socket_directories = '\"" << path << "\"'\n"
         << "max_wal_size = '4GB'\n";
    for (const auto& line : settings) conf << line << '\n';
    conf.close();
    std::string output;
    if (pg_ctl({"-w", "-t", "60", "-l", (home_ / "log").string(), "start"}, &output) != 0)
      throw std::runtime_error("PostgreSQL did not start; see " + (home_ / "log").string() + "\n" +
                               output);
  }
  PgConnection connection({url("postgres")});
  if (connection.exec("SELECT FROM pg_database WHERE datname = 'spillway'").empty())
    connection.exec("CREATE DATABASE spillway");
}

void PrivatePostgres::run_script(const fs::path& file) {
  std::string output;
  if (run_program({(programs_ / "psql").string(), url(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f",
                   fs::absolute(file).string()},
                  "/", std::nullopt, &output) != 0)
    throw std::runtime_error(file.string() + " failed:\n" + output);
}

void PrivatePostgres::stop(const std::string& mode) {
  if (!running()) return;
  std::string output;
  if (pg_ctl({"-w", "-t", "60", "-m", mode, "stop"}, &output) != 0)
    throw std::runtime_error("PostgreSQL did not stop:\n" + output);
}

void PrivatePostgres::restart(const std::string& mode) {
  std::string output;
  if (pg_ctl({"-w", "-t", "60", "-l", (home_ / "log").string(), "-m", mode, "restart"}, &output) !=
      0)
    throw std::runtime_error("PostgreSQL did not restart:\n" + output);
}

std::string PrivatePostgres::url(const std::string& database) const {
  return "postgresql:///" + database + "?host=" + percent_encoded(sockets_.string()) +
         "&port=5432&user=postgres";
}

}  // namespace spillway
