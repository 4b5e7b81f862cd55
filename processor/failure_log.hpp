// Says that events failed, but not a hundred thousand times: of each kind and type so many lines in
// a stretch of time, then how many more there were.
//
// LineLimit is pure; FailureLog is thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "processor/log_line.hpp"

namespace spillway {

class LineLimit {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  static constexpr std::size_t most_keys = 300;  // beyond them all share one

  LineLimit(std::size_t lines, std::chrono::milliseconds window) : lines_(lines), window_(window) {}

  // Whether one more line of this key may be written.
  [[nodiscard]] bool take(const std::string& key, time_point now);

  struct LeftOut {
    std::string key;
    std::uint64_t lines = 0;
  };
  // Of the keys whose time is over: what was left out. They begin anew.
  [[nodiscard]] std::vector<LeftOut> over(time_point now);
  [[nodiscard]] std::vector<LeftOut> all();  // of all keys

 private:
  struct Window {
    time_point begin;
    std::uint64_t lines = 0;
  };
  std::size_t lines_;
  std::chrono::milliseconds window_;
  std::map<std::string, Window> windows_;
};

class FailureLog {
 public:
  static constexpr std::size_t lines = 10;
  static constexpr std::chrono::seconds window{10};

  explicit FailureLog(LogFunction log) : log_(std::move(log)) {}
  ~FailureLog() { finish(); }
  FailureLog(const FailureLog&) = delete;
  FailureLog& operator=(const FailureLog&) = delete;

  // `key` says what it is a line about, such as "dead letters of type A".
  void write(const std::string& key, const LogLine& line);
  // To be called every now and then: says what was left out.
  void tick();
  void finish();

 private:
  void tell(const std::vector<LineLimit::LeftOut>& left_out);

  LogFunction log_;
  std::mutex mutex_;
  LineLimit limit_{lines, window};  // guarded by mutex_
};

}  // namespace spillway
