// Thousands of SSE clients on one thread (epoll), each as cheap as it can be: it keeps half a frame
// and a few numbers. What they read are the frames of a Publisher, numbered 1, 2, 3 … on each
// channel, so every client finds out by itself whether it lost, doubled or reordered one.
//
// One thread. Errors of clients are counted; what the machine refuses (files, ports) throws.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::load {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct Client {
  std::string channel;
  std::string last_id;
  std::uint64_t last = 0;    // number of the last frame
  std::uint64_t frames = 0;  // over all of its connections
  std::uint64_t resets = 0;  // `event: reset`
  std::uint64_t breaks = 0;  // frames that did not follow the one before
  std::uint64_t connections = 0;
  int retry = 0;  // the last `retry:` it was told
  bool open = false;
  bool opened = false;  // the `connected` frame is here
  bool reading = true;
  bool measured = false;   // its frames count for the latency
  int receive_buffer = 0;  // 0: the system's

  int socket = -1;
  std::string rest;
  Clock::time_point ended{};
};

class Swarm {
 public:
  explicit Swarm(int port);
  ~Swarm();
  Swarm(const Swarm&) = delete;
  Swarm& operator=(const Swarm&) = delete;

  // Returns its number. Connects with open().
  std::size_t add(Client client);
  void open(std::size_t number);  // with its last id, if it has one
  void close(std::size_t number);
  void read(std::size_t number, bool reading);
  [[nodiscard]] Client& operator[](std::size_t number) { return clients_[number]; }
  [[nodiscard]] std::size_t size() const { return clients_.size(); }

  // Serves all until the condition holds; false when that took too long.
  bool run_until(const std::function<bool()>& done, milliseconds most);
  void run_for(milliseconds time);

  // Whether all of them, from number `first` on, are like that.
  bool all(const std::function<bool(const Client&)>& like, std::size_t first = 0) const;

  // Seconds from publishing to reading, of the measured ones since the last call.
  [[nodiscard]] std::vector<double> take_latencies();

 private:
  void serve(int milliseconds_at_most);
  void receive(std::size_t number);
  void block(Client& client, std::string_view text);

  int port_;
  int epoll_;
  std::vector<Client> clients_;
  std::vector<double> latencies_;
};

// Takes all open files that the system allows.
void raise_file_limit();

}  // namespace spillway::load
