#include "tests/support/seed.hpp"

#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

namespace spillway::test {

std::uint64_t printed_seed() {
  const char* given = std::getenv("SPILLWAY_TEST_SEED");  // NOLINT(concurrency-mt-unsafe)
  const std::uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device{}();
  std::cout << "[   seed   ] SPILLWAY_TEST_SEED=" << seed << std::endl;
  return seed;
}

}  // namespace spillway::test
