// What the handlers of an event give, with nothing done about it.
//
// One call, one thread; the registry is only read. What a handler throws is the result's `error`.
// Errors: SqlError and ConnectionLost from the reads.
#pragma once

#include "processor/declared_reads.hpp"
#include "spillway/registry.hpp"

namespace spillway {

// Is there a handler at all, and does one need the database?
struct HandlersOf {
  bool any = false;
  bool read = false;
};
[[nodiscard]] HandlersOf handlers_of(const Registry& registry, const Event& event);

// The type's own handlers and those of every type, as a batch runs them. Handlers that read get
// their rows from `reads`, or without it the event's `data`; the others get none.
[[nodiscard]] Result try_event(const Registry& registry, const Event& event, DeclaredReads* reads);

}  // namespace spillway
