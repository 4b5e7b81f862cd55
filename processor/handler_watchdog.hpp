// Ends the process when a handler does not come back: neither C++ nor jq offers another way.
//
// A runner says in its slot which event it hands to its handlers: a few relaxed stores, no clock.
// The watchdog's thread looks at the slots several times per timeout. One that it sees busy with
// the same event for the whole timeout is reported, to the log and in spillway.suspects, so that
// the next process fails the event instead of running it again; then the process ends with exit
// code 1. Time that is spent in SQL is not a handler's.
//
// A slot belongs to one runner; the watchdog may read it at any time. start() and stop() belong to
// one thread; stop() blocks and may be called twice.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "processor/log_line.hpp"
#include "processor/pg_connection.hpp"
#include "processor/queue_store.hpp"

namespace spillway {

class alignas(64) HandlerSlot {
 public:
  // In hand from enter() to leave().
  void enter(const ClaimedEvent& claimed);
  void leave();

  struct Seen {
    std::uint64_t count = 0;  // goes up with every enter()
    std::int64_t event_id = 0;
    std::uint64_t seq = 0;
    std::string type;  // its beginning
    std::string correlation_id;
  };
  // Nothing while no handler runs.
  [[nodiscard]] std::optional<Seen> look() const;

 private:
  static constexpr std::size_t type_words = 8;
  std::atomic<std::uint64_t> count_{0};  // odd while a handler runs
  std::atomic<std::int64_t> event_id_{0};
  std::atomic<std::uint64_t> seq_{0};
  static constexpr std::size_t id_words = 5;  // a uuid has 36 characters
  std::array<std::atomic<std::uint64_t>, type_words> type_{};
  std::array<std::atomic<std::uint64_t>, id_words> correlation_id_{};
};

// Runs `work` as the handlers of the event; `slot` may be null.
template <typename Work>
auto timed(HandlerSlot* slot, const ClaimedEvent& claimed, Work&& work) -> decltype(work()) {
  struct Leave {
    HandlerSlot* slot;
    ~Leave() {
      if (slot != nullptr) slot->leave();
    }
  };
  if (slot != nullptr) slot->enter(claimed);
  const Leave leave{slot};
  return work();
}

// Whether what a slot shows has been there for too long. Looks count as well as time: a process
// that was stopped, or starved, for a while is not a handler that hangs. Pure.
class HangJudge {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr int looks = 8;  // per timeout, about

  [[nodiscard]] bool hangs(const std::optional<HandlerSlot::Seen>& seen, time_point now,
                           std::chrono::milliseconds timeout);

 private:
  std::uint64_t count_ = 0;
  time_point since_{};
  int times_ = 0;
};

struct HandlerWatchdogOptions {
  PgTarget target;
  std::chrono::milliseconds timeout{10'000};
  std::size_t slots = 1;
  LogFunction log;
  std::function<void()> flush_log = {};  // before the process ends; may be empty
};

class HandlerWatchdog {
 public:
  explicit HandlerWatchdog(HandlerWatchdogOptions options);
  ~HandlerWatchdog();
  HandlerWatchdog(const HandlerWatchdog&) = delete;
  HandlerWatchdog& operator=(const HandlerWatchdog&) = delete;

  [[nodiscard]] HandlerSlot& slot(std::size_t number) { return slots_.at(number); }
  void start();
  void stop();

 private:
  void run();
  [[noreturn]] void end_process(const HandlerSlot::Seen& seen);

  HandlerWatchdogOptions options_;
  std::vector<HandlerSlot> slots_;
  std::mutex mutex_;
  std::condition_variable stop_asked_;
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace spillway
