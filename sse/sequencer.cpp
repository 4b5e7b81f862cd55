#include "sse/sequencer.hpp"

#include <algorithm>
#include <iterator>

namespace spillway::sse {
namespace {

std::size_t cost(const BroadcastBatch& batch) {
  std::size_t bytes = sizeof batch;
  for (const Broadcast& broadcast : batch.broadcasts)
    bytes += sizeof broadcast + broadcast.channel.size() + broadcast.event_type.size() +
             broadcast.data.size();
  return bytes;
}

// Where the line stands once the batch is appended.
std::pair<std::uint64_t, std::uint64_t> end_of(const BroadcastBatch& batch) {
  std::uint64_t position = batch.base_position;
  std::uint64_t ephemeral = batch.base_ephemeral;
  for (const Broadcast& broadcast : batch.broadcasts)
    ++(broadcast.ephemeral ? ephemeral : position);
  return {position, ephemeral};
}

}  // namespace

std::vector<BroadcastBatch> Sequencer::start(const Head& head) {
  std::vector<BroadcastBatch> ready;
  if (!started()) {
    head_ = head;
  } else if (head_.epoch == head.epoch) {
    head_.ephemeral = head.ephemeral;
    farthest_.second = 0;  // a number of the old count says nothing about the new one
  } else {
    head_ = head;
    parked_.clear();
    parked_bytes_ = 0;
    farthest_ = {0, 0};
  }
  release(ready);
  return ready;
}

Sequencer::Outcome Sequencer::offer(BroadcastBatch batch) {
  Outcome outcome;
  if (batch.broadcasts.empty()) return outcome;
  if (!started() || !follows(batch)) {
    park(std::move(batch));
    outcome.parked = true;
    return outcome;
  }
  append(std::move(batch), outcome.ready);
  release(outcome.ready);
  return outcome;
}

std::vector<BroadcastBatch> Sequencer::skip(std::uint64_t position) {
  std::vector<BroadcastBatch> ready;
  head_.position = std::max(head_.position, position);
  if (started()) release(ready);
  return ready;
}

std::vector<BroadcastBatch> Sequencer::skip_ephemeral(std::uint64_t number) {
  std::vector<BroadcastBatch> ready;
  head_.ephemeral = std::max(head_.ephemeral, number);
  if (started()) release(ready);
  return ready;
}

bool Sequencer::has_gap() const {
  return !parked_.empty() || farthest_.first > head_.position || farthest_.second > head_.ephemeral;
}

bool Sequencer::follows(const BroadcastBatch& batch) const {
  return batch.base_position <= head_.position && batch.base_ephemeral <= head_.ephemeral;
}

void Sequencer::append(BroadcastBatch batch, std::vector<BroadcastBatch>& ready) {
  const auto end = end_of(batch);
  if (batch.base_position < head_.position || batch.base_ephemeral < head_.ephemeral) {
    std::uint64_t position = batch.base_position;
    std::uint64_t ephemeral = batch.base_ephemeral;
    std::erase_if(batch.broadcasts, [&](const Broadcast& broadcast) {
      return broadcast.ephemeral ? ++ephemeral <= head_.ephemeral : ++position <= head_.position;
    });
    batch.base_position = head_.position;
    batch.base_ephemeral = head_.ephemeral;
  }
  head_.position = std::max(head_.position, end.first);
  head_.ephemeral = std::max(head_.ephemeral, end.second);
  if (!batch.broadcasts.empty()) ready.push_back(std::move(batch));
}

void Sequencer::park(BroadcastBatch batch) {
  const Key key{batch.base_position, batch.base_ephemeral};
  const std::size_t bytes = cost(batch);
  if (const auto known = parked_.find(key); known != parked_.end()) {
    // Two of the same beginning: the longer one holds the other.
    if (known->second.broadcasts.size() >= batch.broadcasts.size()) return;
    parked_bytes_ -= cost(known->second);
    parked_.erase(known);
  }
  parked_bytes_ += bytes;
  parked_.emplace(key, std::move(batch));
  while (parked_bytes_ > parked_cap_ && !parked_.empty()) {
    const auto last = std::prev(parked_.end());
    const Key end = end_of(last->second);
    farthest_.first = std::max(farthest_.first, end.first);
    farthest_.second = std::max(farthest_.second, end.second);
    parked_bytes_ -= cost(last->second);
    parked_.erase(last);
  }
}

void Sequencer::release(std::vector<BroadcastBatch>& ready) {
  // One that still waits for ephemeral numbers must not hold back those behind it that do not.
  for (auto next = parked_.begin();
       next != parked_.end() && next->second.base_position <= head_.position;) {
    if (!follows(next->second)) {
      ++next;
      continue;
    }
    BroadcastBatch batch = std::move(next->second);
    parked_bytes_ -= cost(batch);
    parked_.erase(next);
    append(std::move(batch), ready);
    next = parked_.begin();  // the ephemeral number has moved too
  }
}

}  // namespace spillway::sse
