// All a handler library includes.
//
//   #include <spillway/spillway.hpp>
//   using namespace spillway;
//   static Effects comment_added(const Event& e) { return {Insert{"item_comments", e.payload}}; }
//   SPILLWAY_HANDLERS(registry) { registry.on("CommentAdded", comment_added); }
//
// Built as a shared library and given to `spillway run --handlers`, or linked into a worker of
// one's own together with the spillway libraries and their main.
#pragma once

#include "spillway/effect.hpp"
#include "spillway/event.hpp"
#include "spillway/registry.hpp"
#include "spillway/version.hpp"

#define SPILLWAY_EXPORT_ extern "C" __attribute__((visibility("default")))

// Once per library: the braces behind it fill the registry.
#define SPILLWAY_HANDLERS(registry)                                                  \
  static void spillway_fill_registry_(::spillway::Registry& registry);               \
  SPILLWAY_EXPORT_ const char* spillway_handlers_abi() {                             \
    return SPILLWAY_ABI;                                                             \
  }                                                                                  \
  SPILLWAY_EXPORT_ void spillway_register_handlers(::spillway::Registry& registry) { \
    spillway_fill_registry_(registry);                                               \
  }                                                                                  \
  static void spillway_fill_registry_(::spillway::Registry& registry)
