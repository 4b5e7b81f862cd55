// Peers that vanish without a word: no FIN, no RST, only silence. Two network namespaces, a cable
// between them, and the cable is cut. Needs the right to make namespaces, else it is skipped.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

// A thread in a network namespace of its own; sockets made on it, and commands run from it, live
// there.
class Place {
 public:
  Place() : thread_([this, first = tasks_.get_future()]() mutable { work(std::move(first)); }) {
    isolated_ = on([] { return ::unshare(CLONE_NEWNET) == 0; });
    name_ = on([] {
      return "/proc/" + std::to_string(::getpid()) + "/task/" +
             std::to_string(::syscall(SYS_gettid)) + "/ns/net";
    });
  }
  ~Place() {
    tasks_.set_value({});
    thread_.join();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  template <class Act>
  std::invoke_result_t<Act> on(Act act) {
    std::packaged_task<std::invoke_result_t<Act>()> task(std::move(act));
    auto result = task.get_future();
    auto next = std::exchange(tasks_, std::promise<std::function<void()>>());
    next.set_value([&task] { task(); });
    return result.get();
  }
  bool run(const std::string& command) {
    return on([&] { return std::system((command + " 2>/dev/null").c_str()) == 0; });
  }
  [[nodiscard]] bool isolated() const { return isolated_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void work(std::future<std::function<void()>> next) {
    for (;;) {
      const auto task = next.get();
      if (!task) return;
      next = tasks_.get_future();
      task();
    }
  }

  std::promise<std::function<void()>> tasks_;
  std::thread thread_;
  bool isolated_ = false;
  std::string name_;
};

class HalfOpen : public testing::Test {
 protected:
  void SetUp() override {
    if (!here_.isolated() || !there_.isolated())
      GTEST_SKIP() << "network namespaces may not be made here; run it as root";
    const bool cable =
        here_.run("ip link add near type veth peer name far netns " + there_.name()) &&
        here_.run("ip addr add 10.77.0.1/24 dev near && ip link set near up") &&
        there_.run("ip addr add 10.77.0.2/24 dev far && ip link set far up");
    if (!cable) GTEST_SKIP() << "no veth device can be made here (is iproute2 installed?)";
    ServerOptions options;
    options.listen.front().host = "0.0.0.0";
    options.blocked_timeout = milliseconds(2000);
    options.heartbeat = std::chrono::hours(1);  // nothing but the kernel asks
    options.max_connections_per_address = 1;
    here_.on([&] { site_.emplace(options); });
  }
  Client stream() {
    return there_.on([&] {
      Client client = Client::to("10.77.0.1", site_->port());
      client.send(get("/sse/A/1"));
      return client;
    });
  }
  void cut() { ASSERT_TRUE(there_.run("ip link set far down")); }
  void mend() { ASSERT_TRUE(there_.run("ip link set far up")); }

  // Gone from the streams, and its address has room for another.
  void expect_its_place_is_free() {
    EXPECT_TRUE(site_->wait_for_streams(0));
    mend();
    EXPECT_TRUE(eventually([&] {
      Client again = stream();
      return again.read_until("\n", milliseconds(3000)) &&
             again.read_until("connected", milliseconds(500));
    }));
  }

  Place here_;
  Place there_;
  std::optional<Site> site_;
};

TEST_F(HalfOpen, AnIdlePeerThatVanishedIsFound) {
  Client client = stream();
  ASSERT_TRUE(client.read_until("connected"));
  ASSERT_TRUE(site_->wait_for_streams(1));
  cut();
  expect_its_place_is_free();
}

TEST_F(HalfOpen, OneThatVanishedWithDataUnderWayIsFound) {
  Client client = stream();
  ASSERT_TRUE(client.read_until("connected"));
  ASSERT_TRUE(site_->wait_for_streams(1));
  cut();
  site_->publish({{"A:1", "", "x"}});
  expect_its_place_is_free();
}

TEST_F(HalfOpen, OneThatIsOnlySilentStays) {
  Client client = stream();
  ASSERT_TRUE(client.read_until("connected"));
  ASSERT_TRUE(site_->wait_for_streams(1));
  // Longer than it takes to find one that vanished.
  EXPECT_FALSE(eventually([&] { return site_->server.streams() == 0; }, milliseconds(4500)));
  site_->publish({{"A:1", "", "x"}});
  EXPECT_TRUE(client.read_until("data: x"));
}

}  // namespace
}  // namespace spillway::sse::test
