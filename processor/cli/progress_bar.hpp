// A progress bar on stderr; silent unless that is a terminal. One thread.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>

namespace spillway::cli {

class ProgressBar {
 public:
  explicit ProgressBar(std::uintmax_t whole) : whole_(whole), shown_(isatty(STDERR_FILENO) == 1) {}

  // `done` of the whole; `label` says what, in words.
  void show(std::uintmax_t done, const std::string& label) const {
    if (!shown_) return;
    const std::size_t width = 30;
    const std::size_t filled =
        whole_ == 0 ? width : static_cast<std::size_t>(std::min(done, whole_) * width / whole_);
    std::cerr << "\r[" << std::string(filled, '#') << std::string(width - filled, ' ') << "] "
              << label << std::flush;
  }
  void finish() const {
    if (shown_) std::cerr << '\n';
  }

 private:
  std::uintmax_t whole_;
  bool shown_;
};

}  // namespace spillway::cli
