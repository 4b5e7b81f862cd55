// What other processes have on the channels that this one follows: rows as they were read, summed
// up over the processes. Pure and not thread-safe.
//
// Memory: one entry for each process, channel and member, 200,000 at most; members beyond that are
// not told of. A channel that is not followed any more is forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sse/presence.hpp"

namespace spillway {

class PresenceMirror {
 public:
  explicit PresenceMirror(std::size_t most = 200'000) : most_(most) {}

  // Follows these channels and no others; returns those of which nothing has been read.
  [[nodiscard]] std::vector<std::string> follow(
      const std::vector<sse::PresenceTracker::Followed>& channels);
  [[nodiscard]] bool follows() const { return !since_.empty(); }
  [[nodiscard]] std::vector<std::string> channels() const;

  void set(std::int64_t worker, const std::string& channel, const std::string& member,
           std::uint32_t connections);
  void forget(std::int64_t worker);
  [[nodiscard]] std::vector<std::int64_t> workers() const;

  // The sums that may have changed since the last call, by channel.
  [[nodiscard]] std::vector<sse::PresenceRow> take_changed();

 private:
  using Key = std::pair<std::string, std::string>;  // channel, member
  using Rows = std::map<Key, std::uint32_t>;

  const std::size_t most_;
  std::size_t size_ = 0;
  std::map<std::string, std::uint64_t> since_;  // of the channels
  std::map<std::int64_t, Rows> rows_;           // by process
  std::set<Key> changed_;
};

}  // namespace spillway
