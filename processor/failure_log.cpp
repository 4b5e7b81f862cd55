#include "processor/failure_log.hpp"

#include <utility>

namespace spillway {

bool LineLimit::take(const std::string& key, time_point now) {
  auto found = windows_.find(key);
  if (found == windows_.end())
    found =
        windows_.try_emplace(windows_.size() < most_keys ? key : "other events", Window{now}).first;
  Window& window = found->second;
  return ++window.lines <= lines_;
}

std::vector<LineLimit::LeftOut> LineLimit::over(time_point now) {
  std::vector<LeftOut> left_out;
  for (auto next = windows_.begin(); next != windows_.end();) {
    const auto& [key, window] = *next;
    if (now - window.begin < window_) {
      ++next;
      continue;
    }
    if (window.lines > lines_) left_out.push_back({key, window.lines - lines_});
    next = windows_.erase(next);
  }
  return left_out;
}

std::vector<LineLimit::LeftOut> LineLimit::all() {
  return over(time_point::max());
}

void FailureLog::write(const std::string& key, const LogLine& line) {
  tick();
  {
    const std::scoped_lock lock(mutex_);
    if (!limit_.take(key, std::chrono::steady_clock::now())) return;
  }
  log_(line);
}

void FailureLog::tick() {
  std::vector<LineLimit::LeftOut> left_out;
  {
    const std::scoped_lock lock(mutex_);
    left_out = limit_.over(std::chrono::steady_clock::now());
  }
  tell(left_out);
}

void FailureLog::finish() {
  std::vector<LineLimit::LeftOut> left_out;
  {
    const std::scoped_lock lock(mutex_);
    left_out = limit_.all();
  }
  tell(left_out);
}

void FailureLog::tell(const std::vector<LineLimit::LeftOut>& left_out) {
  for (const auto& [key, more] : left_out)
    log_({LogLevel::warn,
          key + ": … and " + std::to_string(more) + " more in the last " +
              std::to_string(window.count()) + " s",
          {{"left_out", more}}});
}

}  // namespace spillway
