// Presence of this process: hears from the shards who comes and goes on channels that announce
// that, has presence_tracker.hpp decide on a thread of its own, and hands the shards what to tell.
//
// Thread-safe, but for start() and stop(), which belong to one thread; stop() blocks and may be
// called twice. Memory: what the tracker holds, and changes that nobody has taken, 10,000 at most.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sse/presence_tracker.hpp"

namespace spillway::sse {

struct PresenceOptions {
  std::vector<std::string> channels;  // by name, or by a pattern such as Room:*
  std::chrono::milliseconds leave_delay{5000};
  bool others = false;  // there are other processes: someone will call remote()
};

// Connections of one member on one channel; member: empty is anonymous.
struct PresenceRow {
  std::string channel;
  std::string member;
  std::uint32_t connections = 0;

  bool operator==(const PresenceRow&) const = default;
};

// A name that can be told; whoever has none is anonymous.
[[nodiscard]] bool is_member_name(std::string_view name);

class Presence {
 public:
  using Tell = std::function<void(std::shared_ptr<const std::vector<PresenceNews>>)>;

  Presence(PresenceOptions options, Tell tell);
  ~Presence();
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

  void start();
  void stop();

  // --- for the shards ---
  [[nodiscard]] bool announces(std::string_view channel) const;  // no pattern is
  void came(const std::string& channel, std::string_view member) { note(channel, member, 1); }
  void went(const std::string& channel, std::string_view member) { note(channel, member, -1); }

  // --- for whoever speaks with other processes ---
  // Before start(): called when there is a change and there was none since the last take_changes().
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }
  // What has changed of this process's connections. `all`: this is all there is.
  struct Changes {
    bool all = false;
    std::vector<PresenceRow> rows;
  };
  [[nodiscard]] Changes take_changes();
  void count_all_as_changed();

  // The channels whose members elsewhere are of interest; unchanged while generation() is.
  [[nodiscard]] std::vector<PresenceTracker::Followed> followed() const;
  [[nodiscard]] std::uint64_t generation() const;
  // What all other processes together have; replaces what was said of the same member before.
  void remote(const std::vector<PresenceRow>& rows);
  void remote_known(const std::vector<std::string>& channels);
  [[nodiscard]] std::uint32_t remote_count(std::string_view channel, std::string_view member) const;

 private:
  using Clock = PresenceTracker::Clock;

  void note(const std::string& channel, std::string_view member, int change);
  void wake();
  void run();
  void take_in();  // with tracker_mutex_ held
  void mark_changed(const std::string& channel, const std::string& member);

  const PresenceOptions options_;
  const Tell tell_;
  std::function<void()> on_change_;

  std::mutex noted_mutex_;  // guards what follows
  std::condition_variable noted_something_;
  std::unordered_map<std::string, std::map<std::string, int>> noted_;
  bool look_ = false;
  bool stopping_ = false;

  mutable std::mutex tracker_mutex_;  // guards what follows; taken before noted_mutex_
  PresenceTracker tracker_;
  std::set<std::pair<std::string, std::string>> changed_;  // channel, member
  bool all_changed_ = true;

  std::jthread thread_;
};

}  // namespace spillway::sse
