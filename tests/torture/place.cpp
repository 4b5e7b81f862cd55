#include "tests/torture/place.hpp"

#include <signal.h>

#include <chrono>
#include <utility>

namespace spillway::torture {
namespace {

constexpr int database_not_reachable = 3;

}  // namespace

Place::Place(std::string name, std::string url, std::vector<std::string> options)
    : name_(std::move(name)), url_(std::move(url)), options_(std::move(options)) {}

void Place::start() {
  port_ = 0;
  stopped_ = killed_ = false;
  ++starts_;
  worker_ = std::make_unique<test::Worker>(
      url_ + "&application_name=" + name_ + "-" + std::to_string(starts_), options_);
}

void Place::look_after() {
  if (stopped_ || killed_) return;
  if (worker_->process().running()) {
    if (worker_->ready()) port_ = worker_->port();
    return;
  }
  const int code = worker_->process().wait().value_or(-1);
  if (code == database_not_reachable && port_ == 0)
    ++starts_in_vain_;
  else
    trouble("ended by itself with " + std::to_string(code));
  start();
}

void Place::kill() {
  port_ = 0;
  killed_ = true;
  worker_->kill();
}

void Place::terminate() {
  go_on();
  const bool was_ready = port_.exchange(0) != 0;
  killed_ = true;
  worker_->process().signal(SIGTERM);
  const auto code = worker_->process().wait(std::chrono::seconds(60));
  // What has not come up yet may find no database, or end before it has blocked the signal.
  const bool early = code == database_not_reachable || code == 128 + SIGTERM;
  if (code != 0 && (was_ready || !early))
    trouble("SIGTERM ended it with " + (code ? std::to_string(*code) : "nothing"));
}

void Place::stop() {
  worker_->process().signal(SIGSTOP);
  stopped_ = true;
}

void Place::go_on() {
  if (!std::exchange(stopped_, false)) return;
  worker_->process().signal(SIGCONT);
}

void Place::reload() {
  // Before it is ready it may not have blocked the signal yet, and would end.
  if (port_ != 0) worker_->process().signal(SIGHUP);
}

void Place::trouble(const std::string& text) {
  std::string log = worker_->process().errors();
  if (log.size() > 2000) log.erase(0, log.size() - 2000);
  troubles_.push_back(name_ + " " + text + ":\n" + log);
}

}  // namespace spillway::torture
