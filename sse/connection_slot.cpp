#include "sse/connection_slot.hpp"

namespace spillway::sse {

std::size_t ConnectionCounts::clients() const {
  const std::lock_guard lock(mutex_);
  return clients_.size();
}

ConnectionSlot::ConnectionSlot(std::shared_ptr<ConnectionCounts> counts)
    : counts_(std::move(counts)) {
  order_ = counts_->in_all_.fetch_add(1) + 1;
}

ConnectionSlot::~ConnectionSlot() {
  if (!counts_) return;
  counts_->in_all_.fetch_sub(1);
  if (client_ == nullptr) return;
  const std::lock_guard lock(counts_->mutex_);
  if (--client_->second > 0) return;
  const ConnectionCounts::Client key = client_->first;
  counts_->clients_.erase(key);
}

void ConnectionSlot::count_for(const Peer& client) {
  if (!counts_ || client_ != nullptr) return;
  ConnectionCounts::Client key{0, 0};
  if (!client.is_unix()) {
    const auto& address = *client.address();
    key.first = address.is_v4() ? 4 : 6;
    if (address.is_v4()) {
      key.second = address.to_v4().to_uint();
    } else {
      const auto bytes = address.to_v6().to_bytes();
      for (std::size_t i = 0; i < 8; ++i) key.second = key.second << 8 | bytes[i];
    }
  }
  const std::lock_guard lock(counts_->mutex_);
  client_ = &*counts_->clients_.try_emplace(key, 0).first;
  client_order_ = ++client_->second;
}

void ConnectionSlot::swap(ConnectionSlot& other) noexcept {
  std::swap(counts_, other.counts_);
  std::swap(client_, other.client_);
  std::swap(order_, other.order_);
  std::swap(client_order_, other.client_order_);
}

}  // namespace spillway::sse
