// Which handler runs for which event type. Filled once, before the worker starts, then only read:
// safe to read from any number of threads, not to change while they do.
//
// Header-only on purpose: a handler library needs no symbol of the worker.
#pragma once

#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spillway/effect.hpp"
#include "spillway/event.hpp"

namespace spillway {

// What a handler returns: effects, and if it likes a response for whoever waits for the event
// (`POST /events?wait=`). A list of effects is a Result by itself.
struct Result {
  Effects effects;
  std::optional<json> response;
  std::optional<std::string> error;  // set: nothing is applied, the event has failed with this

  Result() = default;
  Result(Effects list) : effects(std::move(list)) {}  // NOLINT: meant to convert
  Result(std::initializer_list<Effect> list) : effects(list) {}
  Result(Effects list, json answer) : effects(std::move(list)), response(std::move(answer)) {}
};

// A pure function: same event, same effects; no I/O, no clock, no state. An exception fails the
// event (it is tried again, then becomes a dead letter), never the worker. Called from several
// threads at once.
using Handler = std::function<Result(const Event&)>;

struct Registration {
  Handler handler;
  // A SELECT that may use `event` (jsonb); its rows arrive as Event::data. Empty: reads nothing.
  std::string reads;
  std::string origin;  // the file it comes from, for errors; set by whoever loads it
};

class Registry {
 public:
  // What on() returns: says what the handler just registered reads, or goes on.
  class Registered {
   public:
    Registered(Registry& registry, Registration& registration)
        : registry_(registry), registration_(registration) {}

    // One SELECT; run once per batch, in its transaction. It sees every effect of earlier events of
    // the event's stream.
    Registered& reads(std::string select) {
      registration_.reads = std::move(select);
      return *this;
    }
    Registered on(std::string type, Handler handler) {
      return registry_.on(std::move(type), std::move(handler));
    }

   private:
    Registry& registry_;
    Registration& registration_;
  };

  // Several handlers of one type all run; their effects follow each other in the order of
  // registration. `*` handles every type, after the handlers of the type itself.
  // Throws std::invalid_argument on an empty type or an empty function.
  Registered on(std::string type, Handler handler) {
    if (type.empty())
      throw std::invalid_argument("a handler needs an event type; use \"*\" for every type");
    if (!handler)
      throw std::invalid_argument("the handler for \"" + type + "\" is an empty function");
    auto& registrations = handlers_[std::move(type)];
    registrations.push_back({std::move(handler), {}, origin_});
    return {*this, registrations.back()};
  }

  // The handlers of exactly this key (`*` is a key of its own); none: nullptr.
  [[nodiscard]] const std::deque<Registration>* find(std::string_view type) const {
    const auto it = handlers_.find(type);
    return it == handlers_.end() ? nullptr : &it->second;
  }

  [[nodiscard]] std::vector<std::string> types() const {
    std::vector<std::string> names;
    for (const auto& entry : handlers_) names.push_back(entry.first);
    return names;
  }

  // The file that what is registered from now on comes from.
  void set_origin(std::string origin) { origin_ = std::move(origin); }

 private:
  // A deque: on() gives out references to its elements.
  std::map<std::string, std::deque<Registration>, std::less<>> handlers_;
  std::string origin_;
};

}  // namespace spillway
