// A progress bar on stderr; nothing at all when that is no terminal. One thread.
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

  // `part` of the whole is done; `text` stands behind the bar.
  void show(std::uintmax_t part, const std::string& text) const {
    if (!shown_) return;
    constexpr std::size_t width = 30;
    const auto filled =
        whole_ == 0 ? width : static_cast<std::size_t>(std::min(part, whole_) * width / whole_);
    std::cerr << "\r[" << std::string(filled, '#') << std::string(width - filled, ' ') << "] "
              << text << std::flush;
  }
  void finish() const {
    if (shown_) std::cerr << '\n';
  }

 private:
  std::uintmax_t whole_;
  bool shown_;
};

}  // namespace spillway::cli
