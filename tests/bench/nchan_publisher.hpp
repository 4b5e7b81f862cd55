// Publishes to Nchan by HTTP, all requests of a burst at once on one connection, without waiting
// for an answer. Not thread-safe. Errors: std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace spillway::bench {

class NchanPublisher {
 public:
  // `bytes` of data in a frame.
  NchanPublisher(std::uint16_t port, std::size_t bytes);
  ~NchanPublisher();
  NchanPublisher(const NchanPublisher&) = delete;
  NchanPublisher& operator=(const NchanPublisher&) = delete;

  // `burst` frames to each of the channels /pub/0, /pub/1, …
  void publish(std::size_t burst, std::size_t channels) const;

 private:
  std::string body_;
  std::uint16_t port_;
  int socket_ = -1;
};

}  // namespace spillway::bench
