// A PostgreSQL of one's own in a folder: initialised on first use, reached only through a Unix
// socket in that folder, adopted when it still runs from an earlier process.
//
// Also when started as root: PostgreSQL refuses to run as root, so it then runs as user `postgres`
// (or `nobody`); where that user cannot get into the folder, the data lives under /var/tmp and the
// folder holds a link to it. One thread, before others are started (it forks). Errors:
// std::runtime_error with what failed.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace spillway {

class PrivatePostgres {
 public:
  explicit PrivatePostgres(std::filesystem::path folder);

  // Starts it unless it runs already, and creates the database `spillway`. `settings`: lines for
  // postgresql.conf.
  void start(const std::vector<std::string>& settings = {});

  void stop(
      const std::string& mode = "fast");  // fast or immediate; nothing happens when it is down
  void restart(const std::string& mode = "fast");

  [[nodiscard]] bool running();

  // Runs a file through psql, stopping at its first error.
  void run_script(const std::filesystem::path& file);

  // A connection URL; the same one for as long as the folder stays where it is.
  [[nodiscard]] std::string url(const std::string& database = "spillway") const;

 private:
  int pg_ctl(std::vector<std::string> arguments, std::string* output = nullptr);
  void initialise();
  void choose_home();

  std::filesystem::path folder_;
  std::filesystem::path home_;  // folder_, or where the server's user can reach it
  std::filesystem::path sockets_;
  std::filesystem::path programs_;
  std::optional<std::pair<unsigned, unsigned>> user_;  // uid, gid to run as
};

}  // namespace spillway
