// One place among the connections that may be open, in all and of one client; given back when it is
// destroyed. Move-only; the counts are shared, so a slot may outlive the server.
//
// The counts may be used from any thread; a slot belongs to one at a time. The table of clients has
// an entry only for those that hold a slot, so it is bounded by the connections themselves.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "sse/peer.hpp"

namespace spillway::sse {

class ConnectionCounts {
 public:
  ConnectionCounts() = default;
  ConnectionCounts(const ConnectionCounts&) = delete;
  ConnectionCounts& operator=(const ConnectionCounts&) = delete;

  [[nodiscard]] std::size_t in_all() const { return in_all_.load(); }
  [[nodiscard]] std::size_t clients() const;  // that are counted at all

 private:
  friend class ConnectionSlot;
  // Of IPv6 the first 64 bits: a client has at least as many addresses as that leaves.
  using Client = std::pair<unsigned char, std::uint64_t>;
  // A tree: nobody can choose his addresses so that they all fall into one bucket.
  using Clients = std::map<Client, std::uint32_t>;

  std::atomic<std::uint32_t> in_all_{0};
  mutable std::mutex mutex_;  // guards clients_
  Clients clients_;
};

class ConnectionSlot {
 public:
  ConnectionSlot() = default;
  explicit ConnectionSlot(std::shared_ptr<ConnectionCounts> counts);
  ConnectionSlot(ConnectionSlot&& other) noexcept { swap(other); }
  ConnectionSlot& operator=(ConnectionSlot&& other) noexcept {
    swap(other);
    return *this;
  }
  ~ConnectionSlot();

  // Counts it for this client as well; once.
  void count_for(const Peer& client);

  // How many were open with this one when it was taken, and how many of its client's when it was
  // counted for him (0: it is not).
  [[nodiscard]] std::size_t order() const { return order_; }
  [[nodiscard]] std::size_t client_order() const { return client_order_; }

 private:
  void swap(ConnectionSlot& other) noexcept;

  std::shared_ptr<ConnectionCounts> counts_;
  ConnectionCounts::Clients::value_type* client_ = nullptr;
  std::uint32_t order_ = 0;
  std::uint32_t client_order_ = 0;
};

}  // namespace spillway::sse
