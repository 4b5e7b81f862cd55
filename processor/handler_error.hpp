// Handlers that cannot be loaded: the message names the file and says what to write instead.
// At start it is a configuration error (exit code 2); at a reload the old handlers stay in force.
#pragma once

#include <stdexcept>

namespace spillway {

class HandlerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace spillway
