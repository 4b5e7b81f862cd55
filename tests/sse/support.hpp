// What the tests of sse/ share: waiting for conditions, a raw HTTP client, a replay source over a
// vector, and a line of positions that feeds both it and the hub.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "sse/hub.hpp"
#include "sse/replay_source.hpp"
#include "sse/server.hpp"

namespace spillway::sse::test {

using std::chrono::milliseconds;

inline constexpr milliseconds kPatience{10000};

// Polls until it is true or the deadline has passed; returns whether it was.
bool eventually(const std::function<bool()>& condition, milliseconds deadline = kPatience);

// A socket and what came out of it. Blocking, with deadlines.
class Client {
 public:
  explicit Client(std::uint16_t port, int receive_buffer = 0);
  Client(std::uint16_t port, std::string_view request) : Client(port) { send(request); }
  // From another address of this machine, such as 127.0.0.2; to another one; to a Unix socket.
  static Client from(const std::string& source, std::uint16_t port);
  static Client to(const std::string& host, std::uint16_t port);
  static Client to_unix(const std::string& path);
  Client(Client&& other) noexcept;
  Client& operator=(Client&& other) noexcept;
  ~Client();

  bool send(std::string_view bytes);
  void finish_sending();
  void close();
  // Closes so that the other side gets a reset.
  void reset();

  // Reads until the predicate likes `received()`; false when it ended or took too long.
  bool read_until(const std::function<bool(const std::string&)>& done,
                  milliseconds deadline = kPatience);
  bool read_until(std::string_view text, milliseconds deadline = kPatience);
  // Reads to the end of the connection; false when it did not end in time.
  bool read_to_end(milliseconds deadline = kPatience);
  // Reads at most `bytes` more, whatever is there; false at the end or after the deadline.
  bool read_some(std::size_t bytes, milliseconds deadline);

  [[nodiscard]] const std::string& received() const { return received_; }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] int descriptor() const { return fd_; }

 private:
  struct Descriptor {
    int number;
  };
  explicit Client(Descriptor descriptor) : fd_(descriptor.number) {}

  int fd_ = -1;
  std::string received_;
  bool ended_ = false;
};

struct Frame {
  std::string event;
  std::string data;
  std::string id;

  bool operator==(const Frame&) const = default;
};

// The complete frames of a stream's body, without the opening block and comments.
std::vector<Frame> frames_of(std::string_view response);
// The body behind the head.
std::string_view body_of(std::string_view response);
// The id of the last complete block; empty without one.
std::string last_id_of(std::string_view response);
std::uint64_t position_of(std::string_view id);

std::string get(std::string_view target, std::string_view more_headers = "");

class FakeReplaySource : public ReplaySource {
 public:
  enum class Mode { at_once, other_thread, hold, fail };

  ~FakeReplaySource() override;

  void read(ReplayRequest request, std::function<void(std::optional<ReplayPage>)> done) override;

  void read_latest(LatestRequest request,
                   std::function<void(std::optional<LatestPage>)> done) override;

  void set_mode(Mode mode);
  void set_head(const Head& head);
  void set_floor(std::uint64_t floor);
  void commit(const BroadcastBatch& batch);
  // Answers what was held; returns how many there were.
  std::size_t release();
  void release_with_failure();
  [[nodiscard]] std::size_t held() const;
  [[nodiscard]] std::size_t reads() const;
  // Broadcasts after `after`, as whoever feeds the hub reads them: one batch.
  [[nodiscard]] std::optional<BroadcastBatch> since(std::uint64_t after, std::size_t limit) const;

 private:
  // A question that waits for its answer; nothing: it fails.
  using Held = std::function<void(bool)>;

  ReplayPage page(const ReplayRequest& request) const;
  LatestPage latest(const LatestRequest& request) const;
  template <class Request, class Page>
  void take(Request request, std::function<void(std::optional<Page>)> done,
            Page (FakeReplaySource::*get)(const Request&) const);
  void answer();

  mutable std::mutex mutex_;
  Mode mode_ = Mode::at_once;
  Head head_{"e", 0, 0};
  std::uint64_t floor_ = 0;
  std::vector<Broadcast> stored_;
  std::vector<Held> held_;
  std::size_t reads_ = 0;
  bool closing_ = false;
  std::condition_variable_any changed_;
  std::vector<std::function<void()>> answers_;
  std::thread answering_;  // only with Mode::other_thread
};

struct Message {
  std::string channel;
  std::string type;
  std::string data;
  bool ephemeral = false;
};

// A hub with a server on loopback and a source behind it.
struct Site {
  explicit Site(ServerOptions options = {}, HubOptions hub_options = {}, bool begin = true);
  ~Site();

  // Gives out positions and commits to the source; nothing reaches the hub yet.
  BroadcastBatch commit(const std::vector<Message>& messages);
  // The same, and publishes.
  void publish(const std::vector<Message>& messages);
  [[nodiscard]] std::uint16_t port() const { return server.port(); }
  [[nodiscard]] Client open(std::string_view target, std::string_view more_headers = "");
  bool wait_for_streams(std::size_t count);

  FakeReplaySource source;
  Hub hub;
  Server server;
  Head line{"e", 0, 0};
};

// The opening every stream of one channel has.
std::string opening(std::string_view channel, std::uint64_t position, int retry = 2000);

}  // namespace spillway::sse::test
