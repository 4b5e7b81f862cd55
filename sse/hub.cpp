#include "sse/hub.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "sse/event_id.hpp"
#include "sse/hub_impl.hpp"
#include "sse/segment.hpp"

namespace spillway::sse {

Hub::Impl::Impl(const HubOptions& options)
    : latest_patterns(options.latest.patterns), sequencer(options.parked_bytes) {
  const std::size_t count = std::max<std::size_t>(1, options.shards);
  for (std::size_t i = 0; i < count; ++i)
    shards.push_back(std::make_unique<Shard>(options.log_bytes, options.latest));
}

void Hub::Impl::deliver(const std::vector<BroadcastBatch>& batches) {
  std::vector<SegmentPtr> segments;
  for (const BroadcastBatch& batch : batches) {
    auto encoded = encode_segments(sequencer.head().epoch, batch, kSegmentBytes, latest_patterns);
    if (segments.empty()) {
      segments = std::move(encoded);
    } else {
      std::move(encoded.begin(), encoded.end(), std::back_inserter(segments));
    }
  }
  if (segments.empty()) return;
  for (const auto& shard : shards) shard->deliver(segments);
}

Hub::Hub(HubOptions options) : impl_(std::make_unique<Impl>(options)) {}

Hub::~Hub() = default;

void Hub::start(const Head& head) {
  if (!valid_epoch(head.epoch))
    throw std::invalid_argument("epoch \"" + head.epoch +
                                "\" cannot be used; write 1 to 16 characters of a-z and 0-9");
  const std::lock_guard lock(impl_->mutex);
  const bool new_line = impl_->sequencer.head().epoch != head.epoch;
  const auto ready = impl_->sequencer.start(head);
  if (new_line) {
    for (const auto& shard : impl_->shards) shard->restart(head);
  }
  impl_->deliver(ready);
}

bool Hub::started() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->sequencer.started();
}

void Hub::publish(BroadcastBatch batch) {
  std::function<void()> on_gap;
  {
    const std::lock_guard lock(impl_->mutex);
    const Sequencer::Outcome outcome = impl_->sequencer.offer(std::move(batch));
    impl_->deliver(outcome.ready);
    if (outcome.parked) on_gap = impl_->on_gap;
  }
  // Without the lock: the callback may well look at the hub.
  if (on_gap) on_gap();
}

void Hub::skip_ephemeral(std::uint64_t number) {
  const std::lock_guard lock(impl_->mutex);
  impl_->deliver(impl_->sequencer.skip_ephemeral(number));
}

void Hub::skip(std::uint64_t position) {
  const std::lock_guard lock(impl_->mutex);
  if (position <= impl_->sequencer.head().position) return;
  const auto ready = impl_->sequencer.skip(position);
  Head head = impl_->sequencer.head();
  head.position = position;
  for (const auto& shard : impl_->shards) shard->restart(head);
  impl_->deliver(ready);
}

Head Hub::head() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->sequencer.head();
}

bool Hub::has_gap() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->sequencer.has_gap();
}

void Hub::on_gap(std::function<void()> callback) {
  const std::lock_guard lock(impl_->mutex);
  impl_->on_gap = std::move(callback);
}

}  // namespace spillway::sse
