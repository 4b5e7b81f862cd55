// Seeds of randomized tests.
#pragma once

#include <cstdint>

namespace spillway::test {

// A seed that is printed; SPILLWAY_TEST_SEED repeats a run.
std::uint64_t printed_seed();

}  // namespace spillway::test
