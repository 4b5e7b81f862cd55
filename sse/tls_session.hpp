// TLS on one connection's socket: an SSL object that reads and writes the descriptor by itself,
// never waits and raises no signal.
//
// What makes one record counts as taken even when the kernel does not take it at once, so whoever
// writes needs no memory of what he offered; unsent() says that it is still to leave, and nothing
// else is written before it. OpenSSL wants to be offered the same bytes again, since it does not
// say whether it has encrypted them already or was still busy with an alert; so they are kept here.
//
// Belongs to one thread. Does not own the descriptor. Nothing throws but the constructor
// (std::bad_alloc); what a client does wrong is Status::failed, and then it is over.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "sse/tls_context.hpp"

struct ssl_st;  // OpenSSL's SSL

namespace spillway::sse {

class TlsSession {
 public:
  enum class Status {
    done,
    want_read,   // the socket has to become readable …
    want_write,  // … or writable; then the same again
    closed,      // the client will send no more
    failed,
    plain_http,  // of handshake(): the client speaks HTTP without TLS
  };

  TlsSession(const TlsContext& context, int descriptor);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  [[nodiscard]] Status handshake();
  [[nodiscard]] Status read(void* buffer, std::size_t size, std::size_t& bytes);
  // `bytes`: how many were taken, also with another status than done. Whether anything has left is
  // told by left().
  [[nodiscard]] Status write(const iovec* pieces, std::size_t count, std::size_t& bytes);

  [[nodiscard]] bool unsent() const { return !held_.empty(); }
  // Bytes that were read off the socket and not yet asked for.
  [[nodiscard]] bool buffered() const;
  // Encrypted bytes that the kernel has taken in all.
  [[nodiscard]] std::uint64_t left() const { return left_; }

  // Tells the client that no more will come, if that can be done without waiting.
  void say_goodbye();

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  friend struct TlsBio;

  [[nodiscard]] Status status_of(int result);
  [[nodiscard]] Status write_record(const void* data, std::size_t size, std::size_t& bytes);

  const int descriptor_;
  bool open_ = false;  // the handshake is done, and nothing has failed since
  std::uint64_t left_ = 0;
  std::string held_;  // a record's bytes that have not left; one at most
  std::unique_ptr<ssl_st, Free> ssl_;
};

}  // namespace spillway::sse
