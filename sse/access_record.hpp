// One line of an access log: a request that was answered, or a stream that ended. Plain values;
// made only where somebody keeps such a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace spillway::sse {

struct AccessRecord {
  std::string client;   // the peer's address
  std::string method;   // empty, and so is the target, when no header could be read
  std::string target;   // without a token
  std::string subject;  // of the token; empty: not known
  unsigned status = 0;
  std::uint64_t bytes = 0;   // of the body; of a stream all that its socket took
  std::uint64_t frames = 0;  // of a stream, from memory; those of the database are among the bytes
  std::chrono::microseconds duration{0};  // from the request's header, or the stream's opening
  // Why a stream ended, or was turned away; empty for other requests.
  std::string end;
};

// Called on a server's thread: it must not block.
using AccessLog = std::function<void(const AccessRecord&)>;

}  // namespace spillway::sse
