// Who listens in this process: how many open streams each channel has, and each pattern, which
// counts for itself. Keeps the limit of subscribers per channel, and notes which counts have
// changed for whoever tells other processes.
//
// Thread-safe. Shards take places when a stream opens and give them back when it closes: a hash and
// a lock of one in 64 for each of its channels, nothing for a frame. Memory: the channels of open
// streams, and at most 16,384 changes that nobody has taken; beyond that all of it counts as
// changed.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace spillway::sse {

class Presence;

class Subscribers {
 public:
  class Places;

  // `most`: subscribers of one channel, 0 for no limit.
  explicit Subscribers(std::size_t most) : most_(most) {}
  Subscribers(const Subscribers&) = delete;
  Subscribers& operator=(const Subscribers&) = delete;

  // Before the first join(): who is told of those who come and go on channels that announce it.
  void announce_to(Presence* presence) { presence_ = presence; }
  // Before the first join(): called, on a shard's thread, when there is a change and there was none
  // since the last take_changes().
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }

  // One place on each of the channels, or none on any: then the channel that is full. `member`
  // names who it is, if that is known, to those who announce it.
  struct Full {
    std::string channel;
  };
  [[nodiscard]] std::variant<Places, Full> join(const std::vector<std::string>& channels,
                                                std::string_view member = {});

  [[nodiscard]] std::size_t most() const { return most_; }
  [[nodiscard]] std::size_t count(std::string_view channel) const;

  struct Count {
    std::string channel;
    std::uint32_t subscribers = 0;

    bool operator==(const Count&) const = default;
  };
  // Of all channels that start with `prefix`, in no order.
  [[nodiscard]] std::vector<Count> counts(std::string_view prefix = {}) const;

  // Channels whose count has changed since they were last taken, with the count now. `all`: changes
  // were dropped, and these are all the counts there are; other channels have none.
  struct Changes {
    bool all = false;
    std::vector<Count> counts;
  };
  [[nodiscard]] Changes take_changes();
  // The next take_changes() takes all.
  void count_all_as_changed();

 private:
  static constexpr std::size_t kBuckets = 64;
  static constexpr std::size_t kMostChanges = 256;  // of one bucket

  struct State {
    std::uint32_t subscribers = 0;
    bool changed = false;  // is in its bucket's list; keeps an entry that has no subscribers
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using Entries = std::unordered_map<std::string, State, Hash, std::equal_to<>>;
  using Entry = Entries::value_type;
  struct Bucket {
    mutable std::mutex mutex;  // guards what follows
    Entries entries;
    std::vector<Entry*> changed;
    bool dropped = false;  // some of `changed`
  };

  [[nodiscard]] Bucket& bucket_of(std::string_view channel) {
    return buckets_[Hash{}(channel) / 7 % kBuckets];
  }
  [[nodiscard]] const Bucket& bucket_of(std::string_view channel) const {
    return buckets_[Hash{}(channel) / 7 % kBuckets];
  }
  [[nodiscard]] Entry* enter(std::string_view channel);  // null: it is full
  void leave(Entry& entry);
  void note(Bucket& bucket, Entry& entry);
  void tell();

  const std::size_t most_;
  Presence* presence_ = nullptr;
  std::function<void()> on_change_;
  std::atomic<bool> told_{false};
  std::array<Bucket, kBuckets> buckets_;
};

// One stream's places, given back when they are destroyed. Move-only; must not outlive the
// registry. Belongs to one thread at a time.
class Subscribers::Places {
 public:
  Places() = default;
  Places(Places&& other) noexcept { swap(other); }
  Places& operator=(Places&& other) noexcept {
    Places gone(std::move(other));
    swap(gone);
    return *this;
  }
  ~Places();

  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  friend class Subscribers;

  void swap(Places& other) noexcept {
    std::swap(registry_, other.registry_);
    entries_.swap(other.entries_);
    announced_as_.swap(other.announced_as_);
  }

  Subscribers* registry_ = nullptr;
  std::vector<Entry*> entries_;
  std::unique_ptr<const std::string> announced_as_;  // none of the channels announces: null
};

}  // namespace spillway::sse
