#include "processor/cli/cli.hpp"

int main(int argc, char** argv) {
  return spillway::cli::run(argc, argv);
}
