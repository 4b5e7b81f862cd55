// Asking a database that may be away for a while.
#pragma once

#include <chrono>
#include <thread>

#include "effects/sql.hpp"

namespace spillway::test {

// Runs `work` again when the connection is lost, until the database is back.
template <typename Work>
auto insist(Work&& work) -> decltype(work()) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (;;) {
    try {
      return work();
    } catch (const ConnectionLost&) {
      if (std::chrono::steady_clock::now() > deadline) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

}  // namespace spillway::test
