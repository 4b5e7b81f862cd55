// The programs of `load`. Each prints what it measures and returns how many things were wrong.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>

namespace spillway::load {

struct LoadOptions {
  std::size_t clients = 1000;
  double seconds = 10;
  int rounds = 2;
  double rate = 20;          // broadcasts a second
  std::size_t bytes = 1000;  // of each
};

int stalled(const LoadOptions& options);
int idle(const LoadOptions& options);
int storm(const LoadOptions& options);
int drain(const LoadOptions& options);

// Says what is wrong, and counts it.
class Verdict {
 public:
  void expect(bool holds, const std::string& what) {
    if (holds) return;
    std::printf("WRONG: %s\n", what.c_str());
    ++wrong_;
  }
  [[nodiscard]] int wrong() const { return wrong_; }

 private:
  int wrong_ = 0;
};

}  // namespace spillway::load
