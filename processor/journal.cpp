#include "processor/journal.hpp"

#include <poll.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// What a logger of this name says is a line already; of the others it is a message.
constexpr const char* lines_logger = "spillway.lines";
constexpr const char* text_logger = "spillway";
constexpr const char* json_logger = "spillway.json";

// As much as a pipe takes whole or not at all, when poll() says that it takes something.
constexpr std::size_t portion = 4096;

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return spdlog::level::trace;
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      break;
  }
  return spdlog::level::err;
}

LogLevel level_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
      return LogLevel::trace;
    case spdlog::level::debug:
      return LogLevel::debug;
    case spdlog::level::info:
      return LogLevel::info;
    case spdlog::level::warn:
      return LogLevel::warn;
    default:
      return LogLevel::error;
  }
}

// Writes to a descriptor that may be a pipe nobody reads: waits for it, but not beyond a deadline
// once there is one.
class DescriptorSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  DescriptorSink(int descriptor, bool json) : descriptor_(descriptor), json_(json) {}

  void give_up_at(steady_clock::time_point deadline) { deadline_ = deadline.time_since_epoch(); }
  void tell_losses(std::function<std::uint64_t()> lost) { lost_ = std::move(lost); }

  [[nodiscard]] std::uint64_t unwritten() const { return unwritten_; }

  // How many flushes have come through.
  [[nodiscard]] bool wait_for_flush(std::uint64_t number, milliseconds most) {
    std::unique_lock lock(flushed_mutex_);
    return flushed_changed_.wait_for(lock, most, [&] { return flushed_ >= number; });
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view payload(message.payload.data(), message.payload.size());
    if (lost_) {
      if (const std::uint64_t lost = lost_(); lost > told_) {
        const std::uint64_t more = lost - std::exchange(told_, lost);
        put(rendered(
            {LogLevel::warn,
             std::to_string(more) + " lines of this log were lost: stderr is not read fast enough",
             {{"lost", more}}}));
      }
    }
    if (std::string_view(message.logger_name.data(), message.logger_name.size()) == lines_logger)
      return put(payload);
    put(rendered({level_of(message.level), std::string(payload)}));
  }

  void flush_() override {
    {
      const std::scoped_lock lock(flushed_mutex_);
      ++flushed_;
    }
    flushed_changed_.notify_all();
  }

 private:
  [[nodiscard]] std::string rendered(const LogLine& line) const {
    const auto now = std::chrono::system_clock::now();
    return json_ ? to_json_line(line, now) : to_text(line, now);
  }

  void put(std::string_view text) {
    while (!text.empty()) {
      if (!wait_for_room()) {
        ++unwritten_;
        return;
      }
      const ssize_t n = ::write(descriptor_, text.data(), std::min(text.size(), portion));
      if (n > 0) text.remove_prefix(static_cast<std::size_t>(n));
      if (n < 0 && errno != EINTR && errno != EAGAIN) {  // closed, or the disk is full
        ++unwritten_;
        return;
      }
    }
  }

  bool wait_for_room() {
    for (;;) {
      pollfd wanted{descriptor_, POLLOUT, 0};
      const bool late = steady_clock::now().time_since_epoch() >= deadline_.load();
      if (poll(&wanted, 1, late ? 0 : 50) > 0) return true;
      if (late) return false;
    }
  }

  const int descriptor_;
  const bool json_;
  std::atomic<steady_clock::duration> deadline_{steady_clock::duration::max()};
  std::atomic<std::uint64_t> unwritten_{0};
  std::function<std::uint64_t()> lost_;
  std::uint64_t told_ = 0;
  std::mutex flushed_mutex_;
  std::condition_variable flushed_changed_;
  std::uint64_t flushed_ = 0;
};

}  // namespace

void write_logs_at_once(const JournalOptions& options) {
  auto sink = std::make_shared<DescriptorSink>(options.descriptor, options.json);
  auto logger =
      std::make_shared<spdlog::logger>(options.json ? json_logger : text_logger, std::move(sink));
  logger->set_level(spdlog_level(options.level));
  spdlog::set_default_logger(std::move(logger));
}

void write_log_at_once(const LogLine& line) {
  const auto logger = spdlog::default_logger();
  if (!logger->should_log(spdlog_level(line.level))) return;
  const auto now = std::chrono::system_clock::now();
  const std::string text = logs_are_json() ? to_json_line(line, now) : to_text(line, now);
  const spdlog::details::log_msg message(lines_logger, spdlog_level(line.level), text);
  for (const auto& sink : logger->sinks()) sink->log(message);
}

bool logs_are_json() {
  return spdlog::default_logger()->name() == json_logger;
}

struct Journal::Impl {
  explicit Impl(const JournalOptions& o)
      : options(o),
        sink(std::make_shared<DescriptorSink>(o.descriptor, o.json)),
        pool(std::make_shared<spdlog::details::thread_pool>(o.lines, 1)) {
    const auto make = [&](const char* name) {
      auto logger = std::make_shared<spdlog::async_logger>(
          name, sink, pool, spdlog::async_overflow_policy::overrun_oldest);
      logger->set_level(spdlog_level(options.level));
      return logger;
    };
    lines = make(lines_logger);
    plain = make(options.json ? json_logger : text_logger);
    // The pool itself, not its owner: while it ends, its thread still writes.
    sink->tell_losses([ending = pool.get()] { return ending->overrun_counter(); });
  }

  const JournalOptions options;
  std::shared_ptr<DescriptorSink> sink;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> lines;
  std::shared_ptr<spdlog::async_logger> plain;
  std::mutex flush_mutex;
  std::uint64_t flushes = 0;
};

Journal::Journal(JournalOptions options) : impl_(std::make_unique<Impl>(options)) {
  spdlog::set_default_logger(impl_->plain);
}

Journal::~Journal() {
  // What is said from here on is written at once.
  write_logs_at_once(impl_->options);
  impl_->sink->give_up_at(steady_clock::now() + impl_->options.patience);
  impl_->lines.reset();
  impl_->plain.reset();
  impl_->pool.reset();  // its thread writes what is left, or gives up at the deadline
}

void Journal::write(const LogLine& line) {
  if (!enabled(line.level)) return;
  const auto now = std::chrono::system_clock::now();
  impl_->lines->log(
      spdlog_level(line.level),
      spdlog::string_view_t(impl_->options.json ? to_json_line(line, now) : to_text(line, now)));
}

bool Journal::enabled(LogLevel level) const {
  return impl_->lines->should_log(spdlog_level(level));
}

bool Journal::flush(milliseconds most) {
  std::uint64_t number = 0;
  {
    const std::scoped_lock lock(impl_->flush_mutex);
    number = ++impl_->flushes;
    impl_->lines->flush();
  }
  return impl_->sink->wait_for_flush(number, most);
}

std::uint64_t Journal::lost() const {
  return impl_->pool->overrun_counter() + impl_->sink->unwritten();
}

}  // namespace spillway
