// Everything that --handlers names, as one registry: directories of jq programs and shared
// libraries, in the order given, after the handlers that are linked in.
//
// Each call reads directories anew; a library that is loaded already stays as it is and only fills
// the new registry. Errors: HandlerError, with the path and what to do; ConnectionLost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "effects/sql.hpp"
#include "spillway/registry.hpp"

namespace spillway {

[[nodiscard]] std::shared_ptr<const Registry> load_handlers(const std::vector<std::string>& paths);

// Lets the database prepare every declared read, on a fresh session outside a transaction.
void check_reads(const Registry& registry, SqlSession& session);

}  // namespace spillway
