#include "processor/response_waiter.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace spillway {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr std::size_t most_waiting = 10000;
constexpr milliseconds shortest_pause{10};  // between two looks, for what other processes do
constexpr milliseconds longest_pause{250};

// Of the events that somebody waits for, those that are settled. The queue is looked at by lane,
// its only index.
const Statement settled_sql{"sw_settled", R"(
SELECT e.id, d.event_id IS NOT NULL, d.error, r.response
FROM unnest($1::bigint[]) AS w(id)
CROSS JOIN LATERAL (SELECT id, stream FROM spillway.events WHERE events.id = w.id OFFSET 0) e
LEFT JOIN spillway.dead_letters d ON d.event_id = e.id
LEFT JOIN spillway.results r ON r.event_id = e.id
WHERE d.event_id IS NOT NULL
   OR (NOT EXISTS (SELECT FROM spillway.waiting x WHERE x.event_id = e.id)
       AND NOT EXISTS (SELECT FROM spillway.scheduled x WHERE x.event_id = e.id)
       AND NOT EXISTS (SELECT FROM spillway.queue x
                       WHERE x.lane = spillway.lane_of(e.stream, e.id) AND x.event_id = e.id)
       AND NOT EXISTS (SELECT FROM spillway.ranked x
                       WHERE x.lane = spillway.lane_of(e.stream, e.id) AND x.event_id = e.id)))"};

}  // namespace

ResponseWaiter::ResponseWaiter(PgTarget target)
    : target_(std::move(target)), thread_([this] { run(); }) {}

ResponseWaiter::~ResponseWaiter() {
  stop();
}

bool ResponseWaiter::wait_for(std::int64_t event_id, milliseconds most, Done done) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || waiters_.size() >= most_waiting) return false;
    waiters_.push_back({event_id, Clock::now() + most, std::move(done)});
    waiting_ = waiters_.size();
  }
  wake_.signal();
  return true;
}

void ResponseWaiter::stop() {
  stopping_ = true;
  wake_.signal();
  if (thread_.joinable()) thread_.join();
  give_up_late_ones(true);
}

void ResponseWaiter::run() {
  std::unique_ptr<PgConnection> connection;
  milliseconds pause = shortest_pause;
  while (!stopping_) {
    const std::uint64_t seen = wake_.count();
    if (waiting_ == 0) {
      wake_.wait(seen, std::chrono::hours(1));
      pause = shortest_pause;
      continue;
    }
    const std::size_t before = waiting_;
    try {
      if (!connection) connection = std::make_unique<PgConnection>(target_);
      look(*connection);
    } catch (const std::exception&) {  // away: who waits waits on, to the end of its time
      connection.reset();
    }
    give_up_late_ones(false);
    // A look costs more while the queue is long, and then nobody is served soon anyhow.
    pause = waiting_ < before ? shortest_pause : std::min(longest_pause, pause * 3 / 2);
    if (waiting_ > 0 && wake_.wait(seen, pause) != Woken::poll) pause = shortest_pause;
  }
  // What the last batches settled is known by now.
  if (waiting_ == 0 || !connection) return;
  try {
    look(*connection);
  } catch (const std::exception&) {  // stop() tells who is left
  }
}

void ResponseWaiter::look(PgConnection& connection) {
  std::string ids = "{";
  {
    const std::scoped_lock lock(mutex_);
    for (const Waiting& waiting : waiters_) append_array_element(ids, waiting.event_id);
  }
  const Rows rows = connection.run(settled_sql, {(ids += '}').c_str()});
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::int64_t id = rows.integer(row, 0);
    json outcome{{"id", id}};
    if (rows.boolean(row, 1)) {
      outcome["status"] = "dead";
      outcome["error"] = rows.string(row, 2);
    } else {
      outcome["status"] = "done";
      outcome["response"] = rows.is_null(row, 3) ? json(nullptr) : json::parse(rows.text(row, 3));
    }
    std::vector<Done> told;
    {
      const std::scoped_lock lock(mutex_);
      std::erase_if(waiters_, [&](Waiting& waiting) {
        if (waiting.event_id != id) return false;
        told.push_back(std::move(waiting.done));
        return true;
      });
      waiting_ = waiters_.size();
    }
    for (const Done& done : told) done(outcome);
  }
}

void ResponseWaiter::give_up_late_ones(bool all) {
  std::vector<Done> told;
  {
    const std::scoped_lock lock(mutex_);
    const auto now = Clock::now();
    std::erase_if(waiters_, [&](Waiting& waiting) {
      if (!all && waiting.deadline > now) return false;
      told.push_back(std::move(waiting.done));
      return true;
    });
    waiting_ = waiters_.size();
  }
  for (const Done& done : told) done(nullptr);
}

}  // namespace spillway
