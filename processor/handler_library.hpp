// Handlers from shared libraries (SPILLWAY_HANDLERS in spillway/spillway.hpp).
//
// Libraries stay loaded until the process ends: the registry holds functions that live in them.
// Errors: HandlerLibraryError, with the path and what to do.
#pragma once

#include <string>

#include "processor/handler_error.hpp"
#include "spillway/registry.hpp"

namespace spillway {

class HandlerLibraryError : public HandlerError {
 public:
  using HandlerError::HandlerError;
};

// Adds the library's handlers to the registry. Refuses a library that was built against headers
// other than this binary's, before anything of it is called.
void load_handler_library(const std::string& path, Registry& registry);

// Handlers that were linked into this program, if there are.
void add_linked_handlers(Registry& registry);

}  // namespace spillway
