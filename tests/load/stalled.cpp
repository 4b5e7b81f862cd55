// As many clients that take nothing as clients that read, and the latter alone, in turns: latency
// of those that read, memory, and that the stalled ones lose nothing when they go on.
#include <string>

#include "tests/load/load.hpp"
#include "tests/load/measures.hpp"
#include "tests/load/publisher.hpp"
#include "tests/load/swarm.hpp"
#include "tests/support/process.hpp"

namespace spillway::load {

int stalled(const LoadOptions& options) {
  using namespace std::chrono_literals;
  const milliseconds phase(static_cast<long long>(options.seconds * 1000));
  Verdict verdict;
  test::Database database;
  // Little is kept, so that those that stall lag behind it and are dropped.
  test::Worker worker(database.url(), {"--log-megabytes", "1"});
  worker.wait_until_ready();
  Publisher publisher(database, "Load:all", options.bytes);
  Swarm swarm(worker.port());
  const auto add = [&](bool stalls) {
    Client client;
    client.channel = "Load:all";
    client.measured = !stalls;
    if (stalls) client.receive_buffer = 4096;
    const std::size_t number = swarm.add(std::move(client));
    swarm.open(number);
    if (number % 200 == 199) swarm.run_for(0ms);
  };
  const auto opened = [](const Client& c) { return c.opened; };
  for (std::size_t i = 0; i < options.clients; ++i) add(false);
  verdict.expect(swarm.run_until([&] { return swarm.all(opened); }, 60s), "not all opened");
  const auto caught_up = [&] {
    return swarm.run_until(
        [&] {
          return swarm.all(
              [&](const Client& c) { return !c.reading || c.last == publisher.published(); });
        },
        60s);
  };
  const auto measure = [&](const char* what) {
    publisher.start(options.rate);
    swarm.run_for(200ms);
    static_cast<void>(swarm.take_latencies());
    swarm.run_for(phase);
    publisher.stop();
    verdict.expect(caught_up(), "one that reads does not get on");
    const Latency latency = latency_of(swarm.take_latencies());
    std::printf("%-15s %s\n", what, to_string(latency).c_str());
    return latency;
  };

  publisher.burst(5);
  verdict.expect(caught_up(), "the first frames do not arrive");
  const std::size_t user_before = own_memory(worker.process().pid());
  double alone = 0, beside = 0, alone99 = 0, beside99 = 0;
  for (int round = 0; round < options.rounds; ++round) {
    const Latency a = measure("alone");
    const std::size_t first = swarm.size();
    for (std::size_t i = 0; i < options.clients; ++i) add(true);
    verdict.expect(swarm.run_until([&] { return swarm.all(opened, first); }, 60s),
                   "not all opened");
    for (std::size_t i = first; i < swarm.size(); ++i) swarm.read(i, false);
    // More than the log holds, let alone the buffers on the way; but none at once that those who
    // read could not follow.
    for (int i = 0; i < 12; ++i) {
      publisher.burst(1 + 200'000 / options.bytes);
      verdict.expect(caught_up(), "one that reads does not get on");
    }
    const KernelMemory kernel = kernel_memory(worker.port());
    verdict.expect(kernel.queued > options.clients * 1000, "nobody is stalled");
    static_cast<void>(swarm.take_latencies());
    const Latency b = measure("beside stalled");
    const std::size_t user = own_memory(worker.process().pid());
    std::printf(
        "%-15s user memory %s more than at first; queued in the kernel %s, %s for each stalled one,"
        " at most %s; all TCP memory %s\n",
        "", kilobytes(user - std::min(user, user_before)).c_str(), kilobytes(kernel.queued).c_str(),
        kilobytes(kernel.queued / options.clients).c_str(), kilobytes(kernel.largest_queue).c_str(),
        kilobytes(kernel.all_tcp).c_str());
    verdict.expect(kernel.largest_queue <= 512u << 10,
                   "a client holds more than 512 KiB in the kernel");
    // Those of an earlier round have read pages, of which there may be 64 MiB at a time.
    verdict.expect(user < user_before + (96u << 20), "more than 96 MiB of user memory");
    alone += a.p50, beside += b.p50, alone99 += a.p99, beside99 += b.p99;

    // They go on; whoever was dropped meanwhile comes back with the id that it has.
    for (std::size_t i = first; i < swarm.size(); ++i) swarm.read(i, true);
    std::size_t came_back = 0;
    const bool whole = swarm.run_until(
        [&] {
          bool all = true;
          for (std::size_t i = first; i < swarm.size(); ++i) {
            if (!swarm[i].open) {
              ++came_back;
              swarm.open(i);
            }
            all = all && swarm[i].last == publisher.published();
          }
          return all;
        },
        120s);
    verdict.expect(whole, "a stalled client did not get all frames");
    verdict.expect(came_back > 0, "none of those that lag was dropped");
    std::printf("%-15s the stalled ones went on, %zu of them by a new connection\n", "", came_back);
    for (std::size_t i = first; i < swarm.size(); ++i) {
      swarm.close(i);
      swarm[i].reading = false;  // counts no more
    }
  }
  verdict.expect(swarm.all([](const Client& c) { return c.breaks == 0 && c.resets == 0; }),
                 "a frame was lost, doubled or out of order");
  std::printf("ratio beside/alone: p50 %.2f, p99 %.2f\n", beside / alone, beside99 / alone99);
  return verdict.wrong();
}

}  // namespace spillway::load
