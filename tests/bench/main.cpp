// bench_streams: the measuring side of scripts/bench, for what must not cost more than what it
// measures. Subcommands print one JSON object; scripts/bench puts them together.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "tests/bench/clients.hpp"
#include "tests/bench/fanout.hpp"
#include "tests/bench/latency.hpp"

namespace {

using namespace spillway::bench;

struct ReceiveOptions {
  std::uint16_t port = 0;
  std::size_t clients = 1;
  std::string target = "/";  // "%" becomes the client's number
  std::uint64_t greetings = 1;
  std::uint64_t frames = 0;  // in all; 0: stay until stdin ends
};

// Says "ready" once all are connected, so that whoever started it can begin.
int run_receive(const ReceiveOptions& options) {
  Clients clients;
  for (std::size_t i = 0; i < options.clients; ++i) {
    std::string target = options.target;
    if (const auto place = target.find('%'); place != std::string::npos)
      target.replace(place, 1, std::to_string(i));
    clients.open(options.port, target);
  }
  clients.await_greetings(options.greetings, std::chrono::seconds(60));
  std::puts("ready");
  std::fflush(stdout);
  if (options.frames == 0) {
    std::string line;
    std::getline(std::cin, line);
    return 0;
  }
  clients.await_frames(options.frames, std::chrono::seconds(60));
  std::printf("{\"frames\":%llu,\"bytes\":%llu}\n",
              static_cast<unsigned long long>(clients.count().frames),
              static_cast<unsigned long long>(clients.count().bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The measuring side of scripts/bench", "bench_streams");
  app.require_subcommand(1);

  FanoutOptions fanout;
  CLI::App* fanout_command = app.add_subcommand("fanout", "One burst after the other to all");
  fanout_command->add_option("--server", fanout.server)
      ->check(CLI::IsMember({"hub", "raw", "nchan"}));
  fanout_command->add_option("--port", fanout.port);
  fanout_command->add_option("--server-pid", fanout.server_pid);
  fanout_command->add_option("--clients", fanout.clients);
  fanout_command->add_option("--channels", fanout.channels);
  fanout_command->add_option("--frames", fanout.frames);
  fanout_command->add_option("--burst", fanout.burst);
  fanout_command->add_option("--bytes", fanout.bytes);
  fanout_command->add_flag("--hold", fanout.hold);

  LatencyOptions latency;
  const auto add_latency = [&latency](CLI::App* command) {
    command->add_option("--database", latency.database)->required();
    command->add_option("--count", latency.count);
    command->add_option("--warm-up", latency.warm_up);
  };
  CLI::App* latency_command = app.add_subcommand("latency", "From an INSERT to its frame");
  add_latency(latency_command);
  latency_command->add_option("--sql", latency.sql)->required();
  latency_command->add_option("--port", latency.port)->required();
  latency_command->add_option("--target", latency.target)->required();
  latency_command->add_option("--greetings", latency.greetings);
  CLI::App* notify_command =
      app.add_subcommand("notify", "A bare NOTIFY round trip and two commits");
  add_latency(notify_command);
  notify_command->add_option("--sql", latency.sql)->required();
  notify_command->add_option("--answer", latency.answer)->required();

  ReceiveOptions receive;
  CLI::App* receive_command = app.add_subcommand("receive", "Count frames until all are there");
  receive_command->add_option("--port", receive.port)->required();
  receive_command->add_option("--clients", receive.clients);
  receive_command->add_option("--target", receive.target)->required();
  receive_command->add_option("--greetings", receive.greetings);
  receive_command->add_option("--frames", receive.frames);

  CLI11_PARSE(app, argc, argv);
  try {
    if (*fanout_command) return run_fanout(fanout);
    if (*latency_command) return run_latency(latency);
    if (*notify_command) return run_notify_latency(latency);
    return run_receive(receive);
  } catch (const std::exception& error) {
    std::cerr << "bench_streams: " << error.what() << '\n';
    return 1;
  }
}
