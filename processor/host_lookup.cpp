#include "processor/host_lookup.hpp"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace spillway {
namespace {

namespace asio = boost::asio;

constexpr int most_threads = 128;

// Of the whole process: what is left behind belongs to nobody any more.
std::atomic<int>& threads_in_use() {
  static std::atomic<int> count{0};
  return count;
}

// Shared by the coroutine and its thread.
struct LookUp {
  std::mutex mutex;
  std::shared_ptr<asio::steady_timer> waiting;  // null once the coroutine has gone on
  bool finished = false;
  FoundHost found;
};

FoundHost look_up(const std::string& host) {
  FoundHost found;
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  const int failure = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (failure != 0) {
    found.error = gai_strerror(failure);
    return found;
  }
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    asio::ip::tcp::endpoint endpoint;
    if (entry->ai_addrlen > endpoint.capacity()) continue;
    std::memcpy(endpoint.data(), entry->ai_addr, entry->ai_addrlen);
    endpoint.resize(entry->ai_addrlen);
    found.addresses.push_back(endpoint.address());
  }
  freeaddrinfo(list);
  if (found.addresses.empty()) found.error = "it has no address";
  return found;
}

void run(const std::shared_ptr<LookUp>& state, const std::string& host) {
  FoundHost found;
  try {
    found = look_up(host);
  } catch (const std::exception& error) {
    found = {{}, error.what()};
  }
  const std::scoped_lock lock(state->mutex);
  state->found = std::move(found);
  state->finished = true;
  // Under the lock: as long as the coroutine waits, its io_context is there.
  if (state->waiting)
    asio::post(state->waiting->get_executor(),
               [timer = state->waiting] { timer->expires_at(std::chrono::steady_clock::now()); });
  state->waiting.reset();
}

// However the coroutine ends, the thread is told that nobody waits.
class Waiting {
 public:
  explicit Waiting(LookUp& state) : state_(state) {}
  ~Waiting() {
    const std::scoped_lock lock(state_.mutex);
    state_.waiting.reset();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  LookUp& state_;
};

}  // namespace

asio::awaitable<FoundHost> look_up_host(std::string host, std::shared_ptr<asio::steady_timer> timer,
                                        std::chrono::steady_clock::time_point deadline) {
  FoundHost result;
  boost::system::error_code not_an_address;
  const auto address = asio::ip::make_address(host, not_an_address);
  if (!not_an_address) {
    result.addresses.push_back(address);
    co_return result;
  }

  auto state = std::make_shared<LookUp>();
  state->waiting = timer;
  timer->expires_at(deadline);
  if (threads_in_use().fetch_add(1) >= most_threads) {
    threads_in_use().fetch_sub(1);
    result.error = "too many look-ups are under way";
    co_return result;
  }
  try {
    std::thread([state, host] {
      run(state, host);
      threads_in_use().fetch_sub(1);
    }).detach();
  } catch (const std::system_error& error) {
    threads_in_use().fetch_sub(1);
    result.error = error.what();
    co_return result;
  }
  {
    const Waiting waiting(*state);
    const auto token = asio::as_tuple(asio::use_awaitable);
    co_await timer->async_wait(token);
  }
  const std::scoped_lock lock(state->mutex);
  if (state->finished)
    result = std::move(state->found);
  else
    result.error = "no answer in time";
  co_return result;
}

}  // namespace spillway
