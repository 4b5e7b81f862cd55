// One place among the connections that may be open; given back when it is destroyed. Move-only; the
// count is shared, so a slot may outlive the server.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace spillway::sse {

class ConnectionSlot {
 public:
  using Count = std::atomic<std::size_t>;

  ConnectionSlot() = default;
  explicit ConnectionSlot(std::shared_ptr<Count> count) : count_(std::move(count)) {
    order_ = count_->fetch_add(1) + 1;
  }
  ConnectionSlot(ConnectionSlot&& other) noexcept = default;
  ConnectionSlot& operator=(ConnectionSlot&& other) noexcept {
    std::swap(count_, other.count_);
    std::swap(order_, other.order_);
    return *this;
  }
  ~ConnectionSlot() {
    if (count_) count_->fetch_sub(1);
  }

  // How many were open with this one when it was taken.
  [[nodiscard]] std::size_t order() const { return order_; }

 private:
  std::shared_ptr<Count> count_;
  std::size_t order_ = 0;
};

}  // namespace spillway::sse
