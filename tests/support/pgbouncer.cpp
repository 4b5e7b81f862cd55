#include "tests/support/pgbouncer.hpp"

#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <stdexcept>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway::test {
namespace fs = std::filesystem;
namespace {

std::string program() {
  for (const char* folder : {"/usr/sbin", "/usr/bin", "/usr/local/bin"})
    if (fs::exists(fs::path(folder) / "pgbouncer")) return std::string(folder) + "/pgbouncer";
  return {};
}

// The folder of the server's socket, out of its URL.
std::string socket_folder() {
  const std::string url = server().url();
  const std::size_t begin = url.find("host=") + 5;
  const std::string encoded = url.substr(begin, url.find('&', begin) - begin);
  std::string folder;
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      folder += encoded[i];
      continue;
    }
    folder += static_cast<char>(std::stoi(encoded.substr(i + 1, 2), nullptr, 16));
    i += 2;
  }
  return folder;
}

}  // namespace

bool PgBouncer::available() {
  return !program().empty();
}

PgBouncer::PgBouncer(std::string database, int pool_size) : database_(std::move(database)) {
  static std::atomic<int> numbers{0};
  folder_ = scratch_folder() / ("bouncer" + std::to_string(++numbers));
  fs::create_directories(folder_);
  // It refuses to be root, and becomes the server's user then.
  fs::permissions(folder_, fs::perms::all);
  std::ofstream(folder_ / "pgbouncer.ini")
      << "[databases]\n* = host=" << socket_folder() << " port=5432 user=postgres\n"
      << "[pgbouncer]\nlisten_port = 6432\nunix_socket_dir = " << folder_.string() << "\n"
      << "unix_socket_mode = 0777\nauth_type = any\npool_mode = transaction\n"
      << "default_pool_size = " << pool_size << "\nmax_client_conn = 500\n"
      << "server_round_robin = 1\nserver_login_retry = 1\n";
  start();
}

void PgBouncer::start() {
  fs::remove(folder_ / ".s.PGSQL.6432");  // of a killed one
  std::vector<std::string> command{program(), (folder_ / "pgbouncer.ini").string()};
  if (geteuid() == 0) {
    const bool postgres = getpwnam("postgres") != nullptr;  // NOLINT(concurrency-mt-unsafe)
    command.insert(command.begin() + 1, {"-u", postgres ? "postgres" : "nobody"});
  }
  process_ = std::make_unique<Process>(command);
  const bool ready = eventually([&] {
    if (!process_->running())
      throw std::runtime_error("pgbouncer ended: " + process_->errors() + process_->output());
    try {
      PgConnection connection({url()});
      return true;
    } catch (const ConnectionLost&) {
      return false;
    }
  });
  if (!ready) throw std::runtime_error("pgbouncer is not ready: " + process_->errors());
}

void PgBouncer::kill() {
  process_->signal(SIGKILL);
  process_->wait();
}

std::string PgBouncer::url() const {
  return "postgresql:///" + database_ + "?host=" + folder_.string() + "&port=6432&user=postgres";
}

}  // namespace spillway::test
