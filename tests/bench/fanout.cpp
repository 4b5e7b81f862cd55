#include "tests/bench/fanout.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>
#include <stdexcept>

#include "tests/bench/clients.hpp"
#include "tests/bench/fanout_server.hpp"
#include "tests/bench/nchan_publisher.hpp"

namespace spillway::bench {
namespace {

using std::chrono::steady_clock;

struct Cpu {
  double user = 0;  // seconds
  double system = 0;
};

// All threads of a process.
Cpu cpu_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  file.ignore(std::numeric_limits<std::streamsize>::max(), ')');
  std::string skipped;
  for (int i = 0; i < 11; ++i) file >> skipped;  // what comes before utime, see proc(5)
  Cpu ticks;
  if (!(file >> ticks.user >> ticks.system)) throw std::runtime_error("the server has gone");
  const auto per_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
  return {ticks.user / per_second, ticks.system / per_second};
}

double own_cpu() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

void await_line() {
  std::fflush(stdout);
  std::string line;
  std::getline(std::cin, line);
}

}  // namespace

int run_fanout(const FanoutOptions& options) {
  std::optional<FanoutServer> server;
  if (options.server != "nchan")
    server.emplace(options.server == "raw" ? ServerKind::raw : ServerKind::hub,
                   Frames{options.clients, options.channels, options.bytes});
  const pid_t server_pid = server ? server->pid() : options.server_pid;

  Clients clients;
  for (std::size_t i = 0; i < options.clients; ++i) {
    const std::size_t channel = i % options.channels;
    if (server)
      clients.open(server->port(), "/sse?channel=" + channel_name(channel));
    else
      clients.open(options.port, "/sub/" + std::to_string(channel));
  }
  const std::chrono::seconds patience(30);
  clients.await_greetings(server ? 1 : 0, patience);
  std::optional<NchanPublisher> nchan;
  if (!server) nchan.emplace(options.port, options.bytes);
  if (options.hold) {
    std::printf("{\"server_pid\":%d}\n", static_cast<int>(server_pid));
    await_line();
  }

  const Cpu server_before = cpu_of(server_pid);
  const double client_before = own_cpu();
  const auto begin = steady_clock::now();
  for (std::size_t sent = 0; sent < options.frames; sent += options.burst) {
    const std::size_t burst = std::min(options.burst, options.frames - sent);
    if (server)
      server->publish(burst);
    else
      nchan->publish(burst, options.channels);
    clients.await_frames(burst * options.clients, patience);
  }
  const std::chrono::duration<double> time = steady_clock::now() - begin;
  const double client = own_cpu() - client_before;
  const Cpu server_after = cpu_of(server_pid);

  const auto deliveries = static_cast<double>(options.frames * options.clients);
  const auto each_us = [&](double seconds) { return seconds / deliveries * 1e6; };
  std::printf(
      "{\"deliveries_per_s\":%.0f,\"seconds\":%.3f,\"frame_bytes\":%.1f,\"server_user_us\":%.3f,"
      "\"server_system_us\":%.3f,\"client_us\":%.3f}\n",
      deliveries / time.count(), time.count(),
      static_cast<double>(clients.count().bytes) / static_cast<double>(clients.count().frames),
      each_us(server_after.user - server_before.user),
      each_us(server_after.system - server_before.system), each_us(client));
  if (options.hold) await_line();
  return 0;
}

}  // namespace spillway::bench
