// Streams on which nothing happens: what one costs, and that each is alive nevertheless.
#include <string>

#include "tests/load/load.hpp"
#include "tests/load/measures.hpp"
#include "tests/load/publisher.hpp"
#include "tests/load/swarm.hpp"
#include "tests/support/process.hpp"

namespace spillway::load {

int idle(const LoadOptions& options) {
  using namespace std::chrono_literals;
  Verdict verdict;
  test::Database database;
  test::Worker worker(database.url(), {"--max-connections", std::to_string(options.clients + 100)});
  worker.wait_until_ready();
  Swarm swarm(worker.port());
  // What the first connections touch is not what a stream costs.
  constexpr std::size_t warm = 50;
  const auto open = [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      Client client;
      client.channel = "Idle:" + std::to_string(swarm.size());
      swarm.open(swarm.add(std::move(client)));
      if (i % 200 == 199) swarm.run_for(0ms);
    }
    verdict.expect(
        swarm.run_until([&] { return swarm.all([](const Client& c) { return c.opened; }); }, 60s),
        "not all streams opened");
  };
  open(warm);
  const std::size_t before = own_memory(worker.process().pid());
  const KernelMemory kernel_before = kernel_memory(worker.port());
  open(options.clients);
  const std::size_t each = (own_memory(worker.process().pid()) - before) / options.clients;
  const KernelMemory kernel = kernel_memory(worker.port());
  std::printf(
      "%zu idle streams, a channel each: %zu bytes of user memory each; %s of TCP memory more\n",
      options.clients, each,
      kilobytes(kernel.all_tcp - std::min(kernel.all_tcp, kernel_before.all_tcp)).c_str());
  // Few streams say more about the allocator than about streams.
  if (options.clients >= 5000) verdict.expect(each <= 2048, "a stream costs more than 2 KiB");

  const std::size_t step = std::max<std::size_t>(1, swarm.size() / 20);
  std::size_t told = 0;
  for (std::size_t i = 0; i < swarm.size(); i += step, ++told) {
    Publisher one(database, swarm[i].channel, 10);
    one.burst(1);
  }
  verdict.expect(swarm.run_until(
                     [&] {
                       std::size_t frames = 0;
                       for (std::size_t i = 0; i < swarm.size(); ++i) frames += swarm[i].frames;
                       return frames == told;
                     },
                     30s),
                 "a stream that was told something did not get it");
  verdict.expect(swarm.all([](const Client& c) { return c.open && c.connections == 1; }),
                 "a stream was cut");
  return verdict.wrong();
}

}  // namespace spillway::load
