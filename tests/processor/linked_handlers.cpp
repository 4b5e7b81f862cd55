// A program with handlers linked in, as a worker of one's own has: they are found without a
// library.
#include <cstdio>

#include "processor/handler_library.hpp"

int main() {
  spillway::Registry registry;
  spillway::add_linked_handlers(registry);
  const bool found = registry.find("Good") != nullptr;
  std::puts(found ? "found" : "not found");
  return found ? 0 : 1;
}
