// The process's log, on stderr. Lines are put into a queue and written by a thread, so that nobody
// waits for whoever reads stderr: while that is too slow the oldest lines go, which the log says
// once it can. The end of the journal writes what is left, for a moment at most.
//
// It is spdlog's default logger for as long as it lives: what others say through spdlog comes out
// in the same form. write(), enabled(), flush() and lost() are thread-safe. One at a time, and not
// across a fork(): its thread would stay behind.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "processor/log_line.hpp"

namespace spillway {

struct JournalOptions {
  bool json = false;  // else text
  LogLevel level = LogLevel::info;
  std::size_t lines = 4096;                  // that may wait
  std::chrono::milliseconds patience{1000};  // how long the end waits for a reader that is slow
  int descriptor = 2;
};

// Without a thread, for a process that is about to fork, or is nothing but a supervisor: spdlog's
// default logger writes in this form at once.
void write_logs_at_once(const JournalOptions& options);

// A line with its fields, where write_logs_at_once() is in force.
void write_log_at_once(const LogLine& line);

// The form of what spdlog's default logger writes.
[[nodiscard]] bool logs_are_json();

class Journal {
 public:
  explicit Journal(JournalOptions options);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void write(const LogLine& line);
  [[nodiscard]] bool enabled(LogLevel level) const;
  // Waits until all that was said before is written; false when that took too long.
  bool flush(std::chrono::milliseconds most);
  // Lines that were not written.
  [[nodiscard]] std::uint64_t lost() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
