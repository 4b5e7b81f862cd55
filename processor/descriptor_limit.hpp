// How many files, sockets above all, this process may have open. Call it before there are threads
// that open any. Throws nothing: fewer connections are served than were asked for, and the log says
// so.
#pragma once

#include <cstddef>

namespace spillway {

// Takes all that the system allows (the soft limit becomes the hard one).
void raise_descriptor_limit(std::size_t connections_wanted);

}  // namespace spillway
