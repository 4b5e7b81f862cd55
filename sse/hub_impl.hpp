// The inside of the hub, shared with the server: the sequencer behind its mutex, and the shards.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "sse/hub.hpp"
#include "sse/sequencer.hpp"
#include "sse/shard.hpp"

namespace spillway::sse {

struct Hub::Impl {
  explicit Impl(const HubOptions& options);

  // Encodes and hands to the shards; with the mutex held, so that segments keep their order.
  void deliver(const std::vector<BroadcastBatch>& batches);

  const std::vector<std::string> latest_patterns;
  mutable std::mutex mutex;  // guards sequencer and on_gap
  Sequencer sequencer;
  std::function<void()> on_gap;
  std::vector<std::unique_ptr<Shard>> shards;  // constant after construction
};

}  // namespace spillway::sse
