// load: thousands of clients on one `spillway run` with a PostgreSQL of its own. Prints figures;
// exits with 1 when a client lost, doubled or reordered a frame, or memory went beyond its bounds.
#include "tests/load/load.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "tests/load/swarm.hpp"

int main(int argc, char** argv) {
  using namespace spillway::load;
  CLI::App app("Thousands of clients on one `spillway run`.");
  app.require_subcommand(1);
  LoadOptions options;
  const auto command = [&](const char* name, const char* what, std::size_t clients) {
    CLI::App* sub = app.add_subcommand(name, what);
    sub->add_option("clients", options.clients,
                    "How many clients; default " + std::to_string(clients));
    sub->add_option("--seconds", options.seconds, "How long each phase is measured");
    sub->add_option("--rate", options.rate, "Broadcasts a second");
    sub->add_option("--bytes", options.bytes, "Bytes of each");
    sub->add_option("--rounds", options.rounds, "How often the phases take turns");
    sub->parse_complete_callback([&options, sub, clients] {
      if (sub->count("clients") == 0) options.clients = clients;
    });
    return sub;
  };
  const CLI::App* is_stalled =
      command("stalled", "Clients that read beside as many that do not, and alone", 1000);
  const CLI::App* is_idle = command("idle", "Streams without traffic: memory of each", 15000);
  const CLI::App* is_storm = command("storm", "Reconnects at once beside live clients", 5000);
  command("drain", "SIGTERM with that many streams open", 2000);
  CLI11_PARSE(app, argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  raise_file_limit();
  try {
    const int wrong = *is_stalled ? stalled(options)
                      : *is_idle  ? idle(options)
                      : *is_storm ? storm(options)
                                  : drain(options);
    return wrong == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "load: %s\n", error.what());
    return 1;
  }
}
