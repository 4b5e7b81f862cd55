// A TCP proxy that does what networks do to connections. Own thread; everything here is
// thread-safe. On 127.0.0.1, any free port.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace spillway::torture {

class Proxy {
 public:
  // `connect` gives a connected socket, or -1 when there is nobody; called on the proxy's thread.
  Proxy(std::function<int()> connect, std::uint64_t seed);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] int port() const { return port_; }

  // Each hits the connections that are open now, every one with this likelihood, at least one.
  struct Fault {
    enum class Kind {
      reset,    // cut with RST
      silence,  // nothing passes for `time`, then RST
      delay,    // nothing passes for `time`, then everything does
      tear,     // half of what comes next passes, then RST
    } kind = Kind::reset;
    double likelihood = 1;
    std::chrono::milliseconds time{0};
  };
  void inflict(const Fault& fault);

  [[nodiscard]] std::size_t hit() const { return hit_; }  // connections, so far
  [[nodiscard]] std::size_t accepted() const { return accepted_; }

 private:
  struct Connection;

  void run();
  void apply(const Fault& fault);
  void accept_one();
  void end(Connection& connection, bool with_reset);
  void pump(Connection& connection, short client, short server);

  std::function<int()> connect_;
  std::mt19937_64 random_;
  int listening_ = -1;
  int event_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> hit_{0};
  std::atomic<std::size_t> accepted_{0};
  std::mutex mutex_;
  std::vector<Fault> faults_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::pair<std::chrono::steady_clock::time_point, int>> lingering_;  // server sides
  std::jthread thread_;
};

// Sockets to connect to; -1 when nobody listens.
int connect_to_port(int port);
int connect_to_path(const std::string& path);

}  // namespace spillway::torture
