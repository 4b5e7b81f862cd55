#include "processor/outbox_replay.hpp"

#include <memory>
#include <utility>

#include "processor/outbox_reader.hpp"

namespace spillway {
namespace {

constexpr std::size_t connections = 2;
constexpr std::size_t most_waiting = 20000;  // as many as streams may resume at once

// Answers exactly once: with nothing if the job is dropped before it ran.
template <class Page>
class Answer {
 public:
  explicit Answer(std::function<void(std::optional<Page>)> done) : done_(std::move(done)) {}
  ~Answer() { give(std::nullopt); }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  void give(std::optional<Page> page) {
    if (auto done = std::exchange(done_, nullptr)) done(std::move(page));
  }

 private:
  std::function<void(std::optional<Page>)> done_;
};

}  // namespace

OutboxReplay::OutboxReplay(PgTarget target) : pool_(std::move(target), connections, most_waiting) {}

void OutboxReplay::read(sse::ReplayRequest request,
                        std::function<void(std::optional<sse::ReplayPage>)> done) {
  auto answer = std::make_shared<Answer<sse::ReplayPage>>(std::move(done));
  // Not taken: the job is destroyed, and with it the answer, which says so.
  static_cast<void>(pool_.post([answer, request = std::move(request)](PgConnection* connection) {
    if (connection == nullptr) return answer->give(std::nullopt);
    answer->give(OutboxReader(*connection).read_page(request));
  }));
}

void OutboxReplay::read_latest(sse::LatestRequest request,
                               std::function<void(std::optional<sse::LatestPage>)> done) {
  auto answer = std::make_shared<Answer<sse::LatestPage>>(std::move(done));
  static_cast<void>(pool_.post([answer, request = std::move(request)](PgConnection* connection) {
    if (connection == nullptr) return answer->give(std::nullopt);
    answer->give(OutboxReader(*connection).read_latest(request));
  }));
}

}  // namespace spillway
