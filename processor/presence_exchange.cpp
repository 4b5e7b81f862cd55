#include "processor/presence_exchange.hpp"

#include <algorithm>
#include <exception>
#include <set>
#include <span>
#include <utility>

#include "processor/backoff.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kWriteInterval{1000};  // and at least as often it looks for what is new
constexpr milliseconds kReadInterval{250};    // at most as often, however often others write
constexpr milliseconds kGather{50};           // a storm begins with one connection
constexpr milliseconds kPurgeInterval{10'000};
// After the database was away, all processes come back one by one.
constexpr seconds kLenience{10};
constexpr std::size_t kRowsOfAStatement = 5000;
constexpr std::size_t kRowsOfARead = 20'000;  // more than one version has

}  // namespace

PresenceExchange::PresenceExchange(PresenceExchangeOptions options, Wake& wake)
    : options_(std::move(options)), wake_(wake) {
  // It waits for nobody's lock, and for no statement that hangs.
  options_.target.limits.lock_wait = milliseconds(5000);
  options_.target.limits.statement = milliseconds(30'000);
  options_.subscribers->on_change([this] { wake_.signal(); });
  if (options_.presence != nullptr) options_.presence->on_change([this] { wake_.signal(); });
}

PresenceExchange::~PresenceExchange() {
  stop();
}

void PresenceExchange::start() {
  thread_ = std::jthread([this] { run(); });
}

void PresenceExchange::stop() {
  stopping_ = true;
  wake_.signal();
  if (thread_.joinable()) thread_.join();
}

void PresenceExchange::run() {
  Backoff backoff;
  while (!stopping_) {
    try {
      PgConnection connection(options_.target);
      follow(connection);
    } catch (const std::exception& error) {
      begun_ = false;  // what was taken may not have been written
      if (const auto* refused = dynamic_cast<const SqlError*>(&error)) complain(*refused);
      // A connection that cannot do its work is no reason to make the next one at once.
      if (std::exchange(went_well_, false)) backoff.reset();
      rest(Clock::now() + backoff.next());
    }
  }
}

// Whatever comes meanwhile.
void PresenceExchange::rest(Clock::time_point until) {
  while (!stopping_ && Clock::now() < until) {
    const std::uint64_t seen = wake_.count();
    if (!stopping_) wake_.wait(seen, std::chrono::ceil<milliseconds>(until - Clock::now()));
  }
}

// Once, until it goes well or wrong otherwise. That the database is away, others say.
void PresenceExchange::complain(const SqlError& error) {
  if (is_outage(error.sqlstate()) || !options_.log) return;
  if (std::exchange(last_error_, error.what()) != error.what())
    options_.log(std::string("telling other processes of subscribers failed: ") + error.what());
}

void PresenceExchange::follow(PgConnection& connection) {
  PresenceStore store(connection);
  if (std::exchange(was_connected_, true)) lenient_until_ = Clock::now() + kLenience;
  auto next_write = Clock::now();
  auto next_read = Clock::now();
  while (!stopping_) {
    const std::uint64_t seen = wake_.count();
    const std::int64_t worker = options_.worker_id();
    const auto now = Clock::now();
    if (worker != 0 && now >= next_write) {
      write(store, worker);
      next_write = now + kWriteInterval;
    }
    if (worker != 0 && options_.presence != nullptr && now >= next_read) {
      read(store, worker);
      next_read = now + kReadInterval;
    }
    if (worker != 0) {
      last_error_.clear();
      went_well_ = true;
    }
    const auto until_write = std::chrono::ceil<milliseconds>(next_write - Clock::now());
    if (wake_.wait(seen, worker == 0 ? kGather : std::max(until_write, milliseconds(1))) ==
            Woken::poll ||
        stopping_)
      continue;
    // Once awake it sleeps until both are due, and through what comes meanwhile.
    const auto due =
        std::max(options_.presence != nullptr ? next_read : next_write, Clock::now() + kGather);
    rest(due);
  }
  if (begun_) store.leave(begun_as_);
  begun_ = false;
}

// --- writing ---

void PresenceExchange::write(PresenceStore& store, std::int64_t worker) {
  if (begun_ && begun_as_ != worker) {
    store.leave(begun_as_);
    begun_ = false;
  }
  if (begun_ && !store.is_there(worker)) begun_ = false;
  if (!begun_) {
    options_.subscribers->count_all_as_changed();
    if (options_.presence != nullptr) options_.presence->count_all_as_changed();
  }
  bool all = false;
  auto rows = take_changes(all);
  if (all || !begun_) {
    store.begin(worker, ++version_);
    begun_ = true;
    begun_as_ = worker;
  }
  write_rows(store, worker, std::move(rows));
  purge(store, worker);
}

std::vector<SubscriberRow> PresenceExchange::take_changes(bool& all) {
  std::vector<SubscriberRow> rows;
  auto counts = options_.subscribers->take_changes();
  sse::Presence* presence = options_.presence;
  sse::Presence::Changes members;
  if (presence != nullptr) {
    members = presence->take_changes();
    // One of the two has lost count: what is written is all of both, or neither.
    if (counts.all && !members.all) {
      presence->count_all_as_changed();
      members = presence->take_changes();
    } else if (members.all && !counts.all) {
      options_.subscribers->count_all_as_changed();
      counts = options_.subscribers->take_changes();
    }
  }
  all = counts.all;
  for (auto& [channel, subscribers] : counts.counts)
    if (presence == nullptr || !presence->announces(channel))
      rows.push_back({std::move(channel), "", subscribers, false});
  for (auto& row : members.rows)
    rows.push_back({std::move(row.channel), std::move(row.member), row.connections, true});
  return rows;
}

void PresenceExchange::write_rows(PresenceStore& store, std::int64_t worker,
                                  std::vector<SubscriberRow> rows) {
  bool told = false;
  for (std::size_t begin = 0; begin < rows.size(); begin += kRowsOfAStatement) {
    const auto end = std::min(begin + kRowsOfAStatement, rows.size());
    const std::vector<SubscriberRow> page(
        std::make_move_iterator(rows.begin() + static_cast<std::ptrdiff_t>(begin)),
        std::make_move_iterator(rows.begin() + static_cast<std::ptrdiff_t>(end)));
    ++version_;
    for (const SubscriberRow& row : page) {
      told = told || row.told;
      if (row.told && row.connections == 0) gone_version_ = version_;
    }
    if (!store.write(worker, version_, page)) {
      begun_ = false;
      return;
    }
  }
  if (told && (!options_.others_listen || options_.others_listen())) store.notify();
}

// Rows without connections go ten seconds after they were written, at the earliest: by then others
// have read them, or they begin anew.
void PresenceExchange::purge(PresenceStore& store, std::int64_t worker) {
  if (Clock::now() < next_purge_) return;
  next_purge_ = Clock::now() + kPurgeInterval;
  if (purge_version_ > 0) {
    store.purge(worker, purge_version_);
    if (gone_version_ <= purge_version_) gone_version_ = 0;
  }
  purge_version_ = gone_version_;
}

// --- reading ---

void PresenceExchange::read(PresenceStore& store, std::int64_t worker) {
  sse::Presence& presence = *options_.presence;
  std::vector<std::string> fresh;
  // Read before the channels are: what changes in between is looked at next time.
  if (const auto generation = presence.generation(); generation != followed_generation_) {
    fresh = mirror_.follow(presence.followed());
    followed_generation_ = generation;
  }
  if (!mirror_.follows()) {
    for (const std::int64_t id : mirror_.workers()) mirror_.forget(id);
    read_.clear();
    return;
  }
  const auto servers = store.others(worker);
  std::set<std::int64_t> living;
  for (const StreamServer& server : servers) living.insert(server.worker);
  if (Clock::now() >= lenient_until_)
    for (auto known = read_.begin(); known != read_.end();) {
      if (!living.contains(known->first)) mirror_.forget(known->first);
      known = living.contains(known->first) ? std::next(known) : read_.erase(known);
    }
  if (!fresh.empty()) {
    std::vector<std::int64_t> known;
    for (const auto& [id, version] : read_) known.push_back(id);
    for (const auto& [id, row] : store.on_channels(known, fresh, 10 * kRowsOfARead))
      mirror_.set(id, row.channel, row.member, row.connections);
  }
  for (const StreamServer& server : servers) read_server(store, server);
  presence.remote(mirror_.take_changed());
  presence.remote_known(fresh);
}

void PresenceExchange::read_server(PresenceStore& store, const StreamServer& server) {
  const auto [known, is_new] = read_.try_emplace(server.worker, 0);
  std::int64_t& version = known->second;
  if (is_new || version < server.floor || version > server.version) {
    mirror_.forget(server.worker);
    version = 0;
  }
  const std::vector<std::string> channels = mirror_.channels();
  while (version < server.version) {
    const auto rows = store.newer(server.worker, version, channels, kRowsOfARead);
    for (const auto& [of, row] : rows)
      mirror_.set(server.worker, row.channel, row.member, row.connections);
    // The last version of a full page may go on in the next one.
    version = rows.size() < kRowsOfARead ? server.version : rows.back().version - 1;
  }
}

}  // namespace spillway
