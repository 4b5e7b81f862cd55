// Handlers from a directory: Type.jq handles events of that type, a file named `*.jq` those of
// every type; Type.sql beside it is what the handler reads. Other files are left alone.
//
// The registry shares the compiled programs; they live as long as some registry has them.
// Errors: HandlerError, with the file and what to do.
#pragma once

#include <string>

#include "spillway/registry.hpp"

namespace spillway {

// Adds the directory's handlers to the registry, in the order of their names.
void load_handler_directory(const std::string& path, Registry& registry);

}  // namespace spillway
