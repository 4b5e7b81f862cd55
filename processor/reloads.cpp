#include "processor/reloads.hpp"

#include <spdlog/spdlog.h>

#include <exception>
#include <utility>

#include "processor/pg_connection.hpp"

namespace spillway {

void Reloads::add(std::string what, std::function<std::string()> read) {
  reloads_.push_back({std::move(what), std::move(read)});
}

void Reloads::run() {
  if (reloads_.empty()) spdlog::info("SIGHUP: there is nothing to reload");
  for (const Reload& reload : reloads_) {
    try {
      const std::string news = reload.read();
      spdlog::info("SIGHUP: {} reloaded{}", reload.what, news.empty() ? "" : ", " + news);
    } catch (const std::exception& error) {
      spdlog::error("SIGHUP: the {} stay as they were: {}", reload.what,
                    hide_password(error.what()));
    }
  }
}

}  // namespace spillway
