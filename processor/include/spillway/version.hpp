// The version of these headers. A handler library carries SPILLWAY_ABI of the headers it was built
// with; a worker refuses one that differs from its own, because Event, Effect and json cross the
// border by value.
#pragma once

#include <nlohmann/json.hpp>

#define SPILLWAY_VERSION "0.1.0"

// Raised whenever the layout of Event, Effect or Registry changes.
#ifndef SPILLWAY_ABI_VERSION
#define SPILLWAY_ABI_VERSION 3
#endif

#define SPILLWAY_STRINGIFY_(x) #x
#define SPILLWAY_STRINGIFY(x) SPILLWAY_STRINGIFY_(x)

#define SPILLWAY_ABI \
  "spillway " SPILLWAY_VERSION ", layout " SPILLWAY_STRINGIFY(SPILLWAY_ABI_VERSION) \
  ", nlohmann-json " SPILLWAY_STRINGIFY(NLOHMANN_JSON_VERSION_MAJOR) "."       \
  SPILLWAY_STRINGIFY(NLOHMANN_JSON_VERSION_MINOR) "."                          \
  SPILLWAY_STRINGIFY(NLOHMANN_JSON_VERSION_PATCH)                              \
  ", C++ ABI " SPILLWAY_STRINGIFY(__GXX_ABI_VERSION)
