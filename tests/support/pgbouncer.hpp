// A real PgBouncer in transaction mode, in front of the tests' server.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/process.hpp"

namespace spillway::test {

class PgBouncer {
 public:
  // Is it installed?
  static bool available();

  // Waits until `database` can be reached through it. Server connections are taken in turn, so that
  // nothing that is left in one of them could be found again by chance.
  explicit PgBouncer(std::string database, int pool_size = 5);

  void kill();   // SIGKILL, and waits
  void start();  // again

  [[nodiscard]] std::string url() const;

 private:
  std::string database_;
  std::filesystem::path folder_;
  std::unique_ptr<Process> process_;
};

}  // namespace spillway::test
