#include "tests/support/subscriber.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "tests/support/sse_client.hpp"

namespace spillway::test {

using namespace std::chrono_literals;

Subscriber::Subscriber(std::string target, std::function<int()> port, SubscriberHabits habits)
    : target_(std::move(target)),
      port_(std::move(port)),
      habits_(std::move(habits)),
      random_(habits_.seed),
      thread_([this] { run(); }) {}

Subscriber::~Subscriber() {
  stopping_ = true;
  thread_.join();
}

std::size_t Subscriber::count() const {
  const std::scoped_lock lock(mutex_);
  return seen_.size();
}

std::vector<Seen> Subscriber::seen() const {
  const std::scoped_lock lock(mutex_);
  return seen_;
}

std::vector<std::size_t> Subscriber::connection_starts() const {
  const std::scoped_lock lock(mutex_);
  return connection_starts_;
}

std::vector<std::string> Subscriber::surprises() const {
  const std::scoped_lock lock(mutex_);
  return surprises_;
}

void Subscriber::run() {
  while (!stopping_) {
    const int port = port_();
    try {
      if (port != 0) follow(port);
    } catch (const std::exception&) {  // nobody listens there any more
    }
    std::this_thread::sleep_for(2ms);
  }
}

void Subscriber::follow(int port) {
  SseClient client(port, target_, last_id_.empty() ? habits_.first_id : last_id_);
  bool opened = false;
  const auto up_to = [this](unsigned long long most) {
    return std::uniform_int_distribution<unsigned long long>(0, most)(random_);
  };
  auto frames_left = habits_.leaves_after == 0 ? ~0ull : up_to(2ull * habits_.leaves_after);
  while (!stopping_) {
    const auto frame = client.next(100ms);
    if (!frame) {
      if (client.ended()) return;
      continue;
    }
    if (frames_left-- == 0) {  // and this frame as if it had never come
      if (habits_.away.count() > 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(
            up_to(static_cast<unsigned long long>(habits_.away.count()))));
      return;
    }
    if (habits_.pause.count() > 0) std::this_thread::sleep_for(habits_.pause);
    const std::scoped_lock lock(mutex_);
    if (frame->id.empty()) surprises_.push_back("a frame without an id: " + frame->data);
    if (frame->event == "reset") surprises_.push_back("reset: " + frame->data);
    if (!std::exchange(opened, true)) {
      if (!frame->event.empty())
        surprises_.push_back("the first frame is not `connected` but " + frame->event);
      if (!last_id_.empty() && frame->id != last_id_)
        surprises_.push_back("resumed from " + last_id_ + ", but it starts at " + frame->id);
      if (!connected_) started_at_ = frame->position();
      connection_starts_.push_back(seen_.size());
      ++connections_;
      connected_ = true;
    } else {
      seen_.push_back({frame->position(), frame->event, frame->data});
    }
    last_id_ = frame->id;
    position_ = frame->position();
  }
}

std::vector<Seen> broadcasts_where(Database& database, const std::string& condition) {
  const Rows rows =
      database.query("SELECT position, event_type, data FROM spillway.broadcasts WHERE " +
                     condition + " ORDER BY position");
  std::vector<Seen> all;
  all.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row)
    all.push_back({rows.integer<std::uint64_t>(row, 0), rows.string(row, 1), rows.string(row, 2)});
  return all;
}

std::string first_difference(const std::vector<Seen>& seen, const std::vector<Seen>& expected) {
  const auto text = [](const std::vector<Seen>& list, std::size_t at) {
    return at < list.size()
               ? std::to_string(list[at].position) + " " + list[at].event + " " + list[at].data
               : std::string("nothing");
  };
  const std::size_t most = std::max(seen.size(), expected.size());
  for (std::size_t i = 0; i < most; ++i)
    if (i >= seen.size() || i >= expected.size() || !(seen[i] == expected[i]))
      return "frame " + std::to_string(i) + " of " + std::to_string(expected.size()) + " is [" +
             text(seen, i) + "], not [" + text(expected, i) + "]";
  return {};
}

}  // namespace spillway::test
