// One `spillway run` after the other, in the same place. One thread, port() from any.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/process.hpp"

namespace spillway::torture {

class Place {
 public:
  Place(std::string name, std::string url, std::vector<std::string> options);

  void start();
  // Looks after it: knows its port once it has one, and starts another when it has ended because it
  // found no database. Any other end is a trouble.
  void look_after();

  void kill();       // SIGKILL
  void terminate();  // SIGTERM, and waits; any exit code but 0 is a trouble
  void stop();       // SIGSTOP
  void go_on();      // SIGCONT
  void reload();     // SIGHUP

  [[nodiscard]] int port() const { return port_; }  // 0: not there just now
  [[nodiscard]] const std::vector<std::string>& troubles() const { return troubles_; }
  [[nodiscard]] int starts() const { return starts_; }
  [[nodiscard]] int starts_in_vain() const { return starts_in_vain_; }

 private:
  void trouble(const std::string& text);

  const std::string name_;
  const std::string url_;
  const std::vector<std::string> options_;
  std::unique_ptr<test::Worker> worker_;
  std::atomic<int> port_{0};
  bool stopped_ = false;
  bool killed_ = false;  // and not started again
  int starts_ = 0;
  int starts_in_vain_ = 0;
  std::vector<std::string> troubles_;
};

}  // namespace spillway::torture
