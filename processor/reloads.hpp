// What SIGHUP reads anew: handlers, keys, certificates. Each by itself: one that cannot be read
// stays as it was and says so in the log, and the others are read all the same.
//
// One thread. add() before the first run(); run() never throws.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace spillway {

class Reloads {
 public:
  // `what`, in the plural: "handlers". `read` puts the new ones in force, or throws and changes
  // nothing; it returns what is worth knowing about them, or nothing.
  void add(std::string what, std::function<std::string()> read);

  void run();

 private:
  struct Reload {
    std::string what;
    std::function<std::string()> read;
  };
  std::vector<Reload> reloads_;
};

}  // namespace spillway
