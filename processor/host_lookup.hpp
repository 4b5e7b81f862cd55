// Looks a host name up, for coroutines, without anybody having to wait for a name server that does
// not answer: each look-up has a thread of its own, which is left behind once its time is over.
// (Asio's resolver has one thread for all, and its end waits for the look-up in hand.)
//
// The coroutine must have ended before its io_context does; a thread that was left behind touches
// neither. Bounded: beyond 128 threads a look-up fails at once.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace spillway {

struct FoundHost {
  std::vector<boost::asio::ip::address> addresses;
  std::string error;  // set: nothing was found
};

// `timer` is what it waits on; its owner may expire it early. Expires at `deadline`.
[[nodiscard]] boost::asio::awaitable<FoundHost> look_up_host(
    std::string host, std::shared_ptr<boost::asio::steady_timer> timer,
    std::chrono::steady_clock::time_point deadline);

}  // namespace spillway
