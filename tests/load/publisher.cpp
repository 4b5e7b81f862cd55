#include "tests/load/publisher.hpp"

#include <chrono>
#include <cstdio>
#include <exception>
#include <utility>

namespace spillway::load {
namespace {

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Publisher::Publisher(test::Database& database, std::string channel, std::size_t bytes)
    : database_(database), channel_(std::move(channel)), bytes_(bytes) {}

Publisher::~Publisher() {
  stop();
}

void Publisher::start(double per_second) {
  stopping_ = false;
  thread_ = std::thread([this, per_second] {
    try {
      PgConnection connection(database_.target());
      auto next = std::chrono::steady_clock::now();
      const auto gap = std::chrono::duration_cast<std::chrono::steady_clock::duration>(
          std::chrono::duration<double>(1 / per_second));
      for (; !stopping_; next += gap) {
        std::this_thread::sleep_until(next);
        connection.exec("SELECT spillway.broadcast('" + channel_ + "', 'load', '{\"n\":" +
                        std::to_string(published_ + 1) + ",\"t\":" + std::to_string(now()) +
                        ",\"pad\":\"" + std::string(bytes_, 'x') + "\"}')");
        ++published_;
      }
    } catch (const std::exception& error) {
      std::fprintf(stderr, "the publisher stopped: %s\n", error.what());
    }
  });
}

void Publisher::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Publisher::burst(std::uint64_t count) {
  database_.query("SELECT spillway.broadcast('" + channel_ +
                  "', 'load', format('{\"n\":%s,\"t\":%s,\"pad\":\"%s\"}', " +
                  std::to_string(published_) + " + g, " + std::to_string(now()) + ", repeat('x', " +
                  std::to_string(bytes_) + "))::jsonb) FROM generate_series(1, " +
                  std::to_string(count) + ") g");
  published_ += count;
}

}  // namespace spillway::load
