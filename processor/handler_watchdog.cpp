#include "processor/handler_watchdog.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "processor/suspects.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A database that does not answer must not keep a process that has to end.
constexpr milliseconds longest_report{3000};

std::string text_of(milliseconds duration) {
  if (duration.count() % 1000 == 0) return std::to_string(duration.count() / 1000) + " s";
  return std::to_string(duration.count()) + " ms";
}

// The beginning of a text, a word at a time.
template <std::size_t Words>
void store(std::array<std::atomic<std::uint64_t>, Words>& to, const std::string& text) {
  std::array<std::uint64_t, Words> words{};
  std::memcpy(words.data(), text.data(), std::min(text.size(), sizeof words));
  for (std::size_t i = 0; i < Words; ++i) to[i].store(words[i], std::memory_order_relaxed);
}

template <std::size_t Words>
std::string load(const std::array<std::atomic<std::uint64_t>, Words>& from) {
  std::array<std::uint64_t, Words> words{};
  for (std::size_t i = 0; i < Words; ++i) words[i] = from[i].load(std::memory_order_relaxed);
  std::array<char, sizeof words + 1> text{};
  std::memcpy(text.data(), words.data(), sizeof words);
  return text.data();
}

// What the watchdog's thread and the one that reports share; it outlives whichever goes first.
struct Report {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
};

}  // namespace

void HandlerSlot::enter(const ClaimedEvent& claimed) {
  event_id_.store(claimed.event.id, std::memory_order_relaxed);
  seq_.store(claimed.seq, std::memory_order_relaxed);
  store(type_, claimed.event.type);
  store(correlation_id_, claimed.event.correlation_id);
  count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void HandlerSlot::leave() {
  count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  // What the next enter() writes must not be seen under this event's count.
  std::atomic_thread_fence(std::memory_order_release);
}

std::optional<HandlerSlot::Seen> HandlerSlot::look() const {
  Seen seen;
  seen.count = count_.load(std::memory_order_acquire);
  if (seen.count % 2 == 0) return std::nullopt;
  seen.event_id = event_id_.load(std::memory_order_relaxed);
  seen.seq = seq_.load(std::memory_order_relaxed);
  seen.type = load(type_);
  seen.correlation_id = load(correlation_id_);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (count_.load(std::memory_order_relaxed) != seen.count) return std::nullopt;
  return seen;
}

bool HangJudge::hangs(const std::optional<HandlerSlot::Seen>& seen, time_point now,
                      milliseconds timeout) {
  if (!seen || seen->count != count_) {
    count_ = seen ? seen->count : 0;
    since_ = now;
    times_ = 0;
    return false;
  }
  return ++times_ >= looks && now - since_ >= timeout;
}

HandlerWatchdog::HandlerWatchdog(HandlerWatchdogOptions options)
    : options_(std::move(options)), slots_(options_.slots) {}

HandlerWatchdog::~HandlerWatchdog() {
  stop();
}

void HandlerWatchdog::start() {
  if (options_.timeout.count() > 0) thread_ = std::jthread([this] { run(); });
}

void HandlerWatchdog::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  stop_asked_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void HandlerWatchdog::run() {
  std::vector<HangJudge> judges(slots_.size());
  const milliseconds pause = std::max(milliseconds(1), options_.timeout / HangJudge::looks);
  std::unique_lock lock(mutex_);
  while (!stop_asked_.wait_for(lock, pause, [this] { return stopping_; })) {
    const auto now = steady_clock::now();
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const auto seen = slots_[i].look();
      if (judges[i].hangs(seen, now, options_.timeout)) end_process(*seen);
    }
  }
}

void HandlerWatchdog::end_process(const HandlerSlot::Seen& seen) {
  const std::string error =
      "the handler ran longer than --handler-timeout (" + text_of(options_.timeout) + ")";
  const LogFields fields{
      {"event_id", seen.event_id}, {"type", seen.type}, {"correlation_id", seen.correlation_id}};
  options_.log({LogLevel::error,
                "event " + std::to_string(seen.event_id) + " (" + seen.type + "): " + error +
                    "; the process ends, since a handler cannot be stopped otherwise",
                fields});
  const auto report = std::make_shared<Report>();
  // Of its own, because nobody can say how long a connection takes to be made.
  std::thread([report, seen, error, fields, target = options_.target, log = options_.log] {
    try {
      PgConnection connection(target);
      connection.exec("BEGIN; SET LOCAL statement_timeout = '2s'");
      blame(connection, seen.event_id, seen.seq, error);
      connection.exec("COMMIT");
    } catch (const std::exception& failure) {
      log({LogLevel::error,
           "event " + std::to_string(seen.event_id) +
               " could not be reported to the database: " + failure.what(),
           fields});
    }
    const std::scoped_lock lock(report->mutex);
    report->done = true;
    report->changed.notify_all();
  }).detach();
  {
    std::unique_lock lock(report->mutex);
    report->changed.wait_for(lock, longest_report, [&] { return report->done; });
  }
  if (options_.flush_log) options_.flush_log();
  _exit(1);
}

}  // namespace spillway
