// A way to a shard's thread for those who may outlive the shard (callbacks of the replay source,
// answers of routes). Thread-safe; what is posted after the shard has gone is dropped.
#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace spillway::sse {

class Mailbox {
 public:
  using Task = std::function<void()>;

  explicit Mailbox(std::function<void(Task)> deliver) : deliver_(std::move(deliver)) {}

  void post(Task task) {
    const std::lock_guard lock(mutex_);
    if (deliver_) deliver_(std::move(task));
  }

  void close() {
    const std::lock_guard lock(mutex_);
    deliver_ = nullptr;
  }

 private:
  std::mutex mutex_;  // guards deliver_
  std::function<void(Task)> deliver_;
};

}  // namespace spillway::sse
