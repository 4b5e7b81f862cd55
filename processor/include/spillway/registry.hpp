// Which handler runs for which event type. Filled once, before the worker starts, then only read:
// safe to read from any number of threads, not to change while they do.
//
// Header-only on purpose: a handler library needs no symbol of the worker.
#pragma once

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spillway/effect.hpp"
#include "spillway/event.hpp"

namespace spillway {

// A pure function: same event, same effects; no I/O, no clock, no state. An exception fails the
// event (it is tried again, then becomes a dead letter), never the worker. Called from several
// threads at once.
using Handler = std::function<Effects(const Event&)>;

class Registry {
 public:
  // Several handlers of one type all run; their effects follow each other in the order of
  // registration. `*` handles every type, after the handlers of the type itself.
  // Throws std::invalid_argument on an empty type or an empty function.
  Registry& on(std::string type, Handler handler) {
    if (type.empty())
      throw std::invalid_argument("a handler needs an event type; use \"*\" for every type");
    if (!handler)
      throw std::invalid_argument("the handler for \"" + type + "\" is an empty function");
    handlers_[std::move(type)].push_back(std::move(handler));
    return *this;
  }

  // The handlers of exactly this key (`*` is a key of its own); none: nullptr.
  [[nodiscard]] const std::vector<Handler>* find(std::string_view type) const {
    const auto it = handlers_.find(type);
    return it == handlers_.end() ? nullptr : &it->second;
  }

  [[nodiscard]] std::vector<std::string> types() const {
    std::vector<std::string> names;
    for (const auto& entry : handlers_) names.push_back(entry.first);
    return names;
  }

 private:
  std::map<std::string, std::vector<Handler>, std::less<>> handlers_;
};

}  // namespace spillway
