// The command line. main() is one call of run(); a worker of one's own, with handlers linked in,
// has the same main.
#pragma once

namespace spillway::cli {

// Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 database not reachable; 4 schema
// version not the binary's.
[[nodiscard]] int run(int argc, char** argv);

}  // namespace spillway::cli
