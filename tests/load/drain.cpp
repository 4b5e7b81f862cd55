// SIGTERM with thousands of streams open: each has all that was committed, and is told when to come
// back, each something else.
#include <signal.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/load/load.hpp"
#include "tests/load/publisher.hpp"
#include "tests/load/swarm.hpp"
#include "tests/support/process.hpp"

namespace spillway::load {

int drain(const LoadOptions& options) {
  using namespace std::chrono_literals;
  Verdict verdict;
  test::Database database;
  test::Worker worker(database.url(), {"--shutdown-timeout", "30s"});
  worker.wait_until_ready();
  Swarm swarm(worker.port());
  for (std::size_t i = 0; i < options.clients; ++i) {
    Client client;
    client.channel = "Drain:all";
    swarm.open(swarm.add(std::move(client)));
    if (i % 200 == 199) swarm.run_for(0ms);
  }
  verdict.expect(
      swarm.run_until([&] { return swarm.all([](const Client& c) { return c.opened; }); }, 60s),
      "not all streams opened");
  Publisher publisher(database, "Drain:all", options.bytes);
  publisher.burst(20);
  // Committed is what counts, not what has arrived.
  verdict.expect(swarm.run_until([&] { return test::drained(database); }, 60s), "no worker");
  worker.process().signal(SIGTERM);
  verdict.expect(
      swarm.run_until([&] { return swarm.all([](const Client& c) { return !c.open; }); }, 60s),
      "a stream did not end");
  verdict.expect(worker.process().wait() == 0, "the exit code is not 0");
  verdict.expect(swarm.all([](const Client& c) { return c.frames == 20 && c.breaks == 0; }),
                 "a stream ended without all that was committed");
  std::set<int> retries;
  auto first = Clock::time_point::max();
  auto last = Clock::time_point::min();
  for (std::size_t i = 0; i < swarm.size(); ++i) {
    retries.insert(swarm[i].retry);
    first = std::min(first, swarm[i].ended);
    last = std::max(last, swarm[i].ended);
  }
  // Up to 4001 different ones are drawn from.
  verdict.expect(retries.size() > std::min<std::size_t>(options.clients, 4000) / 4,
                 "too many are told to come back at the same time");
  verdict.expect(*retries.begin() >= 2000 && *retries.rbegin() <= 6000, "a retry out of bounds");
  std::printf("%zu streams: all frames, %zu different retries of %d to %d ms, closed over %.2f s\n",
              options.clients, retries.size(), *retries.begin(), *retries.rbegin(),
              std::chrono::duration<double>(last - first).count());
  return verdict.wrong();
}

}  // namespace spillway::load
