// The handlers in force, which a reload replaces as a whole. Thread-safe; a batch keeps the set it
// began with.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "spillway/registry.hpp"

namespace spillway {

class HandlerSet {
 public:
  explicit HandlerSet(std::shared_ptr<const Registry> registry) : registry_(std::move(registry)) {}

  [[nodiscard]] std::shared_ptr<const Registry> current() const {
    const std::scoped_lock lock(mutex_);
    return registry_;
  }
  void replace(std::shared_ptr<const Registry> registry) {
    const std::scoped_lock lock(mutex_);
    registry_ = std::move(registry);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Registry> registry_;
};

}  // namespace spillway
