#include "tests/sse/support.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <utility>

namespace spillway::sse::test {
namespace {

using Clock = std::chrono::steady_clock;

bool matches(const std::string& wanted, const std::string& channel) {
  if (wanted.ends_with(":*"))
    return channel.starts_with(std::string_view(wanted).substr(0, wanted.size() - 1));
  return wanted == channel;
}

sockaddr_in ip_address(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  return address;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, milliseconds deadline) {
  const auto end = Clock::now() + deadline;
  while (!condition()) {
    if (Clock::now() >= end) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

Client::Client(std::uint16_t port, int receive_buffer) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0)
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  const sockaddr_in address = ip_address("127.0.0.1", port);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect");
}

Client Client::from(const std::string& source, std::uint16_t port) {
  Client client(Descriptor{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)});
  const sockaddr_in own = ip_address(source, 0);
  const sockaddr_in address = ip_address("127.0.0.1", port);
  if (::bind(client.fd_, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0 ||
      ::connect(client.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect from " + source);
  return client;
}

Client Client::to(const std::string& host, std::uint16_t port) {
  Client client(Descriptor{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)});
  const sockaddr_in address = ip_address(host, port);
  if (::connect(client.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect to " + host);
  return client;
}

Client Client::to_unix(const std::string& path) {
  Client client(Descriptor{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)});
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(client.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect to " + path);
  return client;
}

Client::Client(Client&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      received_(std::move(other.received_)),
      ended_(other.ended_) {}

Client& Client::operator=(Client&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(received_, other.received_);
  std::swap(ended_, other.ended_);
  return *this;
}

Client::~Client() {
  close();
}

bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void Client::finish_sending() {
  ::shutdown(fd_, SHUT_WR);
}

void Client::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void Client::reset() {
  const linger hard{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close();
}

bool Client::read_some(std::size_t bytes, milliseconds deadline) {
  if (ended_) return false;
  pollfd waiting{fd_, POLLIN, 0};
  if (::poll(&waiting, 1, static_cast<int>(deadline.count())) <= 0) return false;
  std::array<char, 65536> buffer;
  const ssize_t n = ::recv(fd_, buffer.data(), std::min(bytes, buffer.size()), 0);
  if (n <= 0) {
    ended_ = true;
    return false;
  }
  received_.append(buffer.data(), static_cast<std::size_t>(n));
  return true;
}

bool Client::read_until(const std::function<bool(const std::string&)>& done,
                        milliseconds deadline) {
  const auto end = Clock::now() + deadline;
  while (!done(received_)) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
    if (left.count() <= 0 || !read_some(65536, left)) return done(received_);
  }
  return true;
}

bool Client::read_until(std::string_view text, milliseconds deadline) {
  return read_until([text](const std::string& all) { return all.find(text) != std::string::npos; },
                    deadline);
}

bool Client::read_to_end(milliseconds deadline) {
  read_until([this](const std::string&) { return ended_; }, deadline);
  return ended_;
}

std::string_view body_of(std::string_view response) {
  const std::size_t end = response.find("\r\n\r\n");
  return end == std::string_view::npos ? std::string_view{} : response.substr(end + 4);
}

std::vector<Frame> frames_of(std::string_view response) {
  std::vector<Frame> frames;
  std::string_view body = body_of(response);
  bool opening = true;
  for (std::size_t end = body.find("\n\n"); end != std::string_view::npos;
       end = body.find("\n\n")) {
    std::string_view block = body.substr(0, end + 1);
    body.remove_prefix(end + 2);
    Frame frame;
    bool first_data = true;
    while (!block.empty()) {
      const std::string_view line = block.substr(0, block.find('\n'));
      block.remove_prefix(line.size() + 1);
      if (line.starts_with("event: ")) frame.event = line.substr(7);
      if (line.starts_with("id: ")) frame.id = line.substr(4);
      if (line.starts_with("data: ")) {
        if (!std::exchange(first_data, false)) frame.data += '\n';
        frame.data += line.substr(6);
      }
    }
    if (!std::exchange(opening, false)) frames.push_back(frame);
  }
  return frames;
}

std::string last_id_of(std::string_view response) {
  const std::string_view body = body_of(response);
  // Complete blocks only: a client takes an id over when its frame is complete, at the earliest.
  const std::size_t end = body.rfind("\n\n");
  if (end == std::string_view::npos) return {};
  const std::size_t start = body.rfind("id: ", end);
  if (start == std::string_view::npos) return {};
  return std::string(body.substr(start + 4, end - start - 4));
}

std::uint64_t position_of(std::string_view id) {
  return std::strtoull(std::string(id.substr(id.find('-') + 1)).c_str(), nullptr, 10);
}

std::string get(std::string_view target, std::string_view more_headers) {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: x\r\n" + std::string(more_headers) +
         "\r\n";
}

FakeReplaySource::~FakeReplaySource() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  if (answering_.joinable()) answering_.join();
}

void FakeReplaySource::answer() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !answers_.empty(); });
    if (answers_.empty()) return;
    auto answers = std::exchange(answers_, {});
    lock.unlock();
    for (auto& answer : answers) answer();
    lock.lock();
  }
}

template <class Request, class Page>
void FakeReplaySource::take(Request request, std::function<void(std::optional<Page>)> done,
                            Page (FakeReplaySource::*get)(const Request&) const) {
  std::unique_lock lock(mutex_);
  ++reads_;
  switch (mode_) {
    case Mode::hold:
      held_.push_back(
          [this, request = std::move(request), done = std::move(done), get](bool served) {
            if (!served) return done(std::nullopt);
            std::optional<Page> answer;
            {
              const std::lock_guard relock(mutex_);
              answer = (this->*get)(request);
            }
            done(std::move(answer));
          });
      return;
    case Mode::fail:
      lock.unlock();
      done(std::nullopt);
      return;
    case Mode::at_once: {
      Page answer = (this->*get)(request);
      lock.unlock();
      done(std::move(answer));
      return;
    }
    case Mode::other_thread:
      if (!answering_.joinable()) answering_ = std::thread([this] { answer(); });
      answers_.push_back([done = std::move(done), answer = (this->*get)(request)]() mutable {
        done(std::move(answer));
      });
      changed_.notify_all();
      return;
  }
}

void FakeReplaySource::read(ReplayRequest request,
                            std::function<void(std::optional<ReplayPage>)> done) {
  take(std::move(request), std::move(done), &FakeReplaySource::page);
}

void FakeReplaySource::read_latest(LatestRequest request,
                                   std::function<void(std::optional<LatestPage>)> done) {
  take(std::move(request), std::move(done), &FakeReplaySource::latest);
}

void FakeReplaySource::set_mode(Mode mode) {
  const std::lock_guard lock(mutex_);
  mode_ = mode;
}

void FakeReplaySource::set_head(const Head& head) {
  const std::lock_guard lock(mutex_);
  head_ = head;
}

void FakeReplaySource::set_floor(std::uint64_t floor) {
  const std::lock_guard lock(mutex_);
  floor_ = floor;
}

void FakeReplaySource::commit(const BroadcastBatch& batch) {
  const std::lock_guard lock(mutex_);
  for (const Broadcast& broadcast : batch.broadcasts) {
    if (broadcast.ephemeral) {
      ++head_.ephemeral;
      continue;
    }
    ++head_.position;
    stored_.push_back(broadcast);
  }
}

std::size_t FakeReplaySource::release() {
  std::vector<Held> held;
  {
    const std::lock_guard lock(mutex_);
    held.swap(held_);
  }
  for (Held& one : held) one(true);
  return held.size();
}

void FakeReplaySource::release_with_failure() {
  std::vector<Held> held;
  {
    const std::lock_guard lock(mutex_);
    held.swap(held_);
  }
  for (Held& one : held) one(false);
}

std::size_t FakeReplaySource::held() const {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

std::size_t FakeReplaySource::reads() const {
  const std::lock_guard lock(mutex_);
  return reads_;
}

ReplayPage FakeReplaySource::page(const ReplayRequest& request) const {
  ReplayPage page;
  page.head = head_;
  page.floor = floor_;
  page.upto = head_.position;
  std::size_t bytes = 0;
  const std::uint64_t after = std::max(request.after.value_or(floor_), floor_);
  for (const Broadcast& broadcast : stored_) {
    if (broadcast.position <= after) continue;
    const bool wanted = std::any_of(
        request.channels.begin(), request.channels.end(),
        [&](const std::string& channel) { return matches(channel, broadcast.channel); });
    if (!wanted) continue;
    if (page.broadcasts.size() == request.limit) {
      page.upto = page.broadcasts.back().position;
      break;
    }
    page.broadcasts.push_back(broadcast);
    bytes += broadcast.data.size();
    if (bytes >= request.bytes) {
      page.upto = broadcast.position;
      break;
    }
  }
  return page;
}

LatestPage FakeReplaySource::latest(const LatestRequest& request) const {
  LatestPage page;
  page.head = head_;
  page.complete = true;
  std::map<std::string, Broadcast> newest;
  for (const Broadcast& broadcast : stored_) {
    if (broadcast.position > request.upto) break;
    if (std::any_of(
            request.channels.begin(), request.channels.end(),
            [&](const std::string& channel) { return matches(channel, broadcast.channel); }))
      newest[broadcast.channel] = broadcast;
  }
  for (const auto& [channel, broadcast] : newest) {
    if (page.broadcasts.size() == request.limit) page.complete = false;
    if (page.complete) page.broadcasts.push_back(broadcast);
  }
  return page;
}

std::optional<BroadcastBatch> FakeReplaySource::since(std::uint64_t after,
                                                      std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  if (after >= head_.position) return std::nullopt;
  BroadcastBatch batch;
  batch.base_position = after;
  for (std::size_t i = after; i < stored_.size() && batch.broadcasts.size() < limit; ++i)
    batch.broadcasts.push_back(stored_[i]);
  return batch;
}

Site::Site(ServerOptions options, HubOptions hub_options, bool begin)
    : hub(hub_options),
      server(
          [&] {
            for (Endpoint& endpoint : options.listen) endpoint.port = 0;
            return options;
          }(),
          hub, source) {
  if (!begin) return;
  hub.start(line);
  server.start();
}

Site::~Site() {
  server.stop(milliseconds(0));
}

BroadcastBatch Site::commit(const std::vector<Message>& messages) {
  BroadcastBatch batch;
  batch.base_position = line.position;
  batch.base_ephemeral = line.ephemeral;
  for (const Message& message : messages) {
    ++(message.ephemeral ? line.ephemeral : line.position);
    batch.broadcasts.push_back(
        {line.position, message.channel, message.type, message.data, message.ephemeral});
  }
  source.commit(batch);
  return batch;
}

void Site::publish(const std::vector<Message>& messages) {
  hub.publish(commit(messages));
}

Client Site::open(std::string_view target, std::string_view more_headers) {
  return Client(port(), get(target, more_headers));
}

bool Site::wait_for_streams(std::size_t count) {
  return eventually([&] { return server.streams() == count; });
}

std::string opening(std::string_view channel, std::uint64_t position, int retry) {
  const std::string number = std::to_string(position);
  return "HTTP/1.1 200 OK\r\n"
         "Content-Type: text/event-stream\r\n"
         "Cache-Control: no-store, no-transform\r\n"
         "X-Accel-Buffering: no\r\n"
         "Connection: close\r\n"
         "\r\n"
         "retry: " +
         std::to_string(retry) + "\ndata: {\"type\":\"connected\",\"channel\":\"" +
         std::string(channel) + "\",\"position\":\"" + number + "\"}\nid: e-" + number + "\n\n";
}

}  // namespace spillway::sse::test
