#include "tests/bench/fanout_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "sse/frame.hpp"
#include "sse/hub.hpp"
#include "sse/replay_source.hpp"
#include "sse/server.hpp"

namespace spillway::bench {
namespace {

constexpr std::string_view kEpoch = "bench";
constexpr std::string_view kEventType = "Bench";

class NoReplay final : public sse::ReplaySource {
 public:
  void read(sse::ReplayRequest, std::function<void(std::optional<sse::ReplayPage>)> done) override {
    done(std::nullopt);
  }
  void read_latest(sse::LatestRequest,
                   std::function<void(std::optional<sse::LatestPage>)> done) override {
    done(std::nullopt);
  }
};

void serve_hub(const Frames& frames, const Pipe& orders, const Pipe& answers) {
  sse::Hub hub({});
  hub.start({std::string(kEpoch), 0, 0});
  NoReplay replay;
  sse::ServerOptions options;
  options.listen.front().port = 0;
  options.max_connections = 1'000'000;
  sse::Server server(options, hub, replay);
  server.start();
  answers.say(server.port());
  const std::string data(frames.bytes, 'x');
  std::uint64_t position = 0;
  while (const std::uint64_t burst = orders.hear()) {
    sse::BroadcastBatch batch;
    batch.base_position = position;
    for (std::uint64_t i = 0; i < burst; ++i)
      for (std::size_t channel = 0; channel < frames.channels; ++channel)
        batch.broadcasts.push_back(
            {++position, channel_name(channel), std::string(kEventType), data, false});
    hub.publish(std::move(batch));
  }
  server.stop(std::chrono::milliseconds(0));
}

void send_all(int client, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) throw std::runtime_error("send");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

// The least a server can do: each frame encoded once, and one send of it for each client. Clients
// are of channel 0, whatever they ask for.
void serve_raw(const Frames& frames, const Pipe& orders, const Pipe& answers) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (listener < 0 || ::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener, 4096) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw std::runtime_error("cannot listen");
  answers.say(ntohs(address.sin_port));
  std::vector<int> clients;
  std::string opening(sse::kStreamHead);
  sse::append_opening(opening, std::chrono::seconds(2), kEpoch, 0, {channel_name(0)});
  while (clients.size() < frames.clients) {
    const int client = ::accept(listener, nullptr, nullptr);
    if (client < 0) throw std::runtime_error("accept");
    const int one = 1;
    ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    std::array<char, 4096> request;
    if (::recv(client, request.data(), request.size(), 0) <= 0) throw std::runtime_error("recv");
    send_all(client, opening);
    clients.push_back(client);
  }
  const std::string data(frames.bytes, 'x');
  std::string frame;
  std::uint64_t position = 0;
  while (const std::uint64_t burst = orders.hear()) {
    for (std::uint64_t i = 0; i < burst; ++i) {
      frame.clear();
      sse::append_frame(frame, kEpoch, ++position, kEventType, data);
      for (const int client : clients) send_all(client, frame);
    }
  }
}

}  // namespace

std::string channel_name(std::size_t number) {
  return "BenchStream:channel:" + std::to_string(number);
}

FanoutServer::FanoutServer(ServerKind kind, const Frames& frames) {
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ == 0) {
    // Also when the parent is killed: nothing may stay behind.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    orders_.close_writer();
    answers_.close_reader();
    try {
      (kind == ServerKind::raw ? serve_raw : serve_hub)(frames, orders_, answers_);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "the server of streams: %s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  orders_.close_reader();
  answers_.close_writer();
  port_ = static_cast<std::uint16_t>(answers_.hear());
  if (port_ == 0) throw std::runtime_error("the server of streams did not start");
}

FanoutServer::~FanoutServer() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace spillway::bench
