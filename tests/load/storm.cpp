// Thousands of clients that come back at one moment, half of them from what is in memory, half from
// what only the database has, beside live ones.
#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "tests/load/load.hpp"
#include "tests/load/measures.hpp"
#include "tests/load/publisher.hpp"
#include "tests/load/swarm.hpp"
#include "tests/support/process.hpp"

namespace spillway::load {

int storm(const LoadOptions& options) {
  using namespace std::chrono_literals;
  constexpr std::size_t kLive = 200;
  const milliseconds phase(static_cast<long long>(options.seconds * 1000));
  Verdict verdict;
  test::Database database;
  test::Worker worker(database.url(), {"--log-megabytes", "1"});
  worker.wait_until_ready();
  Swarm swarm(worker.port());
  const auto add = [&](const std::string& channel, const std::string& id) {
    Client client;
    client.channel = channel;
    client.last_id = id;
    return swarm.add(std::move(client));
  };

  // A history that the storm's channel missed: 300 frames, then others that push it out of memory.
  Publisher missed(database, "Storm:all", 200);
  Publisher filler(database, "Filler:all", 2000);
  const std::size_t probe = add("Storm:all", "");
  swarm.open(probe);
  verdict.expect(swarm.run_until([&] { return swarm[probe].opened; }, 30s), "no stream");
  const std::string before = swarm[probe].last_id;
  missed.burst(300);
  const auto arrived = [&] { return swarm[probe].last == missed.published(); };
  verdict.expect(swarm.run_until(arrived, 60s), "the history does not arrive");
  // Little by little: a batch that is larger than the log would cut every stream.
  for (int i = 0; i < 10; ++i) {
    filler.burst(150);
    verdict.expect(swarm.run_until([&] { return test::drained(database); }, 60s), "no worker");
  }
  const std::uint64_t old_ones = missed.published();
  missed.burst(20);
  verdict.expect(swarm.run_until(arrived, 60s), "the history does not arrive");
  const std::string dash = before.substr(0, before.find('-') + 1);
  // Behind the history and the filler, in front of the last 20.
  const std::string recent = dash + std::to_string(old_ones + filler.published());

  // On a thread of their own: what the storm's clients have to do must not count as latency.
  Publisher publisher(database, "Live:all", 200);
  Swarm live(worker.port());
  for (std::size_t i = 0; i < kLive; ++i) {
    Client client;
    client.channel = "Live:all";
    client.measured = true;
    live.open(live.add(std::move(client)));
  }
  verdict.expect(
      live.run_until([&] { return live.all([](const Client& c) { return c.opened; }); }, 30s),
      "not all opened");
  publisher.start(options.rate);
  live.run_for(300ms);
  static_cast<void>(live.take_latencies());
  live.run_for(phase);
  const Latency calm = latency_of(live.take_latencies());
  std::printf("live, calm:   %s\n", to_string(calm).c_str());
  const std::size_t user_before = own_memory(worker.process().pid());
  std::atomic<bool> over{false};
  std::thread living([&] { live.run_until([&] { return over.load(); }, 300s); });

  const std::size_t first = swarm.size();
  for (std::size_t i = 0; i < options.clients; ++i) {
    const bool old = i % 2 == 0;
    swarm[add("Storm:all", old ? before : recent)].last = old ? 0 : old_ones;
  }
  const auto begin = Clock::now();
  for (std::size_t i = first; i < swarm.size(); ++i) {
    swarm.open(i);
    if (i % 100 == 99) swarm.run_for(0ms);
  }
  std::size_t again = 0;
  const bool served = swarm.run_until(
      [&] {
        bool all = true;
        for (std::size_t i = first; i < swarm.size(); ++i) {
          if (!swarm[i].open) {
            ++again;
            swarm.open(i);
          }
          all = all && swarm[i].last == missed.published();
        }
        return all;
      },
      120s);
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  const std::size_t user = own_memory(worker.process().pid());
  over = true;
  living.join();
  const Latency stormy = latency_of(live.take_latencies());
  verdict.expect(served, "not all of the storm was served");
  // A stream that is live again keeps nothing of the pages that it read.
  verdict.expect(
      user <= user_before + std::max<std::size_t>(8u << 20, options.clients * (16u << 10)),
      "the storm leaves too much in memory: " + kilobytes(user - user_before));
  publisher.stop();
  verdict.expect(
      live.run_until(
          [&] {
            return live.all([&](const Client& c) { return c.last == publisher.published(); });
          },
          30s),
      "a live client starves");
  verdict.expect(live.all([](const Client& c) {
    return c.breaks == 0 && c.resets == 0 && c.connections == 1;
  }),
                 "a live client was cut, or lost a frame");
  std::printf("live, stormy: %s\n", to_string(stormy).c_str());
  std::printf(
      "%zu reconnects, half of them from the database: all served within %.2f s, %zu came twice;"
      " user memory %s; ratio p50 %.2f, p99 %.2f\n",
      options.clients, took, again, kilobytes(user).c_str(),
      calm.p50 > 0 ? stormy.p50 / calm.p50 : 0, calm.p99 > 0 ? stormy.p99 / calm.p99 : 0);
  for (std::size_t i = first; i < swarm.size(); ++i) {
    const std::uint64_t expected = (i - first) % 2 == 0 ? missed.published() : 20;
    if (swarm[i].frames == expected) continue;
    verdict.expect(false, "client " + std::to_string(i - first) + " got " +
                              std::to_string(swarm[i].frames) + " frames of " +
                              std::to_string(expected));
    break;
  }
  verdict.expect(swarm.all([](const Client& c) { return c.breaks == 0 && c.resets == 0; }),
                 "a frame was lost, doubled or out of order");
  return verdict.wrong();
}

}  // namespace spillway::load
