// Broadcasts numbered frames by `spillway.broadcast()`, each a transaction, at an even rate, from a
// thread of its own: {"n":1,"t":<nanoseconds of the steady clock>,"pad":"…"}.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include "tests/support/database.hpp"

namespace spillway::load {

class Publisher {
 public:
  Publisher(test::Database& database, std::string channel, std::size_t bytes);
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  void start(double per_second);
  void stop();  // returns when the last one is committed
  // As many at once, in one statement; not while it is started.
  void burst(std::uint64_t count);
  [[nodiscard]] std::uint64_t published() const { return published_; }

 private:
  test::Database& database_;
  std::string channel_;
  std::size_t bytes_;
  std::atomic<std::uint64_t> published_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace spillway::load
