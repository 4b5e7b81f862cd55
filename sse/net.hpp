// The few names of Asio that the inside of sse/ uses, and the options of a client's socket.
// Not included by public headers.
#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>

namespace spillway::sse {

namespace asio = boost::asio;
using boost::system::error_code;

// TCP or Unix. Tied to io_context: smaller and quicker than a socket with a type-erased executor.
using Socket =
    asio::basic_stream_socket<asio::generic::stream_protocol, asio::io_context::executor_type>;

// What every accepted connection gets.
void set_connection_options(int socket) noexcept;
// What a stream gets besides: little unsent data in the kernel, and an end for peers that vanished.
void set_stream_options(int socket, std::chrono::milliseconds blocked_timeout) noexcept;

}  // namespace spillway::sse
