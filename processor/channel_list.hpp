// GET /api/channels: who listens to what, over all processes. Pure, but for the statement that
// counts the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "processor/presence_store.hpp"
#include "sse/subscribers.hpp"

namespace spillway {

struct ChannelQuery {
  std::string prefix;
  std::size_t limit = 100;
};
// Throws std::invalid_argument that names the parameter and says what to write.
[[nodiscard]] ChannelQuery channel_query(const std::string& query);

struct ListedChannel {
  std::string channel;  // or a pattern
  std::uint64_t subscribers = 0;
  std::uint64_t local = 0;  // of them in this process

  bool operator==(const ListedChannel&) const = default;
};

struct ChannelList {
  std::vector<ListedChannel> channels;  // most subscribers first, `limit` of them
  std::size_t total = 0;                // how many there are in all
  std::uint64_t subscribers = 0;        // of all of those
};

[[nodiscard]] ChannelList channel_list(std::vector<sse::Subscribers::Count> local,
                                       const std::vector<ChannelCount>& elsewhere,
                                       std::size_t limit);

[[nodiscard]] nlohmann::json to_json(const ChannelList& list);

}  // namespace spillway
