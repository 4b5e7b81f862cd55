// A subscriber with a thread of its own that is never told to give up: cut off, it comes back with
// the last id it saw, to whichever port it is told of. It notes every frame, and what must not
// happen.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/database.hpp"

namespace spillway::test {

// A frame as it came; `connected` frames are not kept.
struct Seen {
  std::uint64_t position = 0;
  std::string event;
  std::string data;
  bool operator==(const Seen&) const = default;
};

struct SubscriberHabits {
  std::string first_id;                // "earliest"; "": where the line stands when it comes
  std::chrono::microseconds pause{0};  // after each frame
  unsigned leaves_after = 0;           // goes by itself after so many frames, about; 0: never
  std::chrono::milliseconds away{0};   // for so long, at most
  std::uint64_t seed = 1;
};

class Subscriber {
 public:
  // `port` is asked before each connection, on the subscriber's thread; 0: nobody lives just now.
  Subscriber(std::string target, std::function<int()> port, SubscriberHabits habits = {});
  ~Subscriber();
  Subscriber(const Subscriber&) = delete;
  Subscriber& operator=(const Subscriber&) = delete;

  // All of these from any thread.
  [[nodiscard]] bool connected() const { return connected_; }  // has had its first frame, ever
  [[nodiscard]] std::size_t connections() const { return connections_; }
  [[nodiscard]] std::uint64_t started_at() const {
    return started_at_;
  }                                                                   // position, once connected
  [[nodiscard]] std::uint64_t position() const { return position_; }  // of its last frame
  [[nodiscard]] std::size_t count() const;
  [[nodiscard]] std::vector<Seen> seen() const;
  [[nodiscard]] std::vector<std::size_t> connection_starts() const;  // as indexes of seen()
  [[nodiscard]] std::vector<std::string> surprises() const;  // resets, frames without an id, errors

 private:
  void run();
  void follow(int port);

  const std::string target_;
  const std::function<int()> port_;
  const SubscriberHabits habits_;
  std::mt19937_64 random_;
  std::string last_id_;
  std::atomic<bool> connected_{false};
  std::atomic<std::size_t> connections_{0};
  std::atomic<std::uint64_t> started_at_{0};
  std::atomic<std::uint64_t> position_{0};
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<Seen> seen_;
  std::vector<std::size_t> connection_starts_;
  std::vector<std::string> surprises_;
  std::jthread thread_;
};

// What the outbox holds of the channels that satisfy `condition`, in order.
std::vector<Seen> broadcasts_where(Database& database, const std::string& condition);

// "" when they are the same, else where they part.
std::string first_difference(const std::vector<Seen>& seen, const std::vector<Seen>& expected);

}  // namespace spillway::test
