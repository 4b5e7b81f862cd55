// Tells other processes who listens here, and this one who listens there: writes what has changed
// to spillway.subscribers, once a second at most, and reads what others wrote of the channels that
// announce presence, when it is told to (NOTIFY) and once a second anyhow. A process on which
// nothing changes writes nothing.
//
// A thread and a connection of its own. start() and stop() belong to one thread; stop() blocks,
// takes the process's rows away and may be called twice. After a lost connection, or where its rows
// are gone (a crash of PostgreSQL empties the tables), everything is written anew.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "processor/pg_connection.hpp"
#include "processor/presence_mirror.hpp"
#include "processor/presence_store.hpp"
#include "processor/wake.hpp"
#include "sse/subscribers.hpp"

namespace spillway {

struct PresenceExchangeOptions {
  PgTarget target;
  sse::Subscribers* subscribers = nullptr;
  sse::Presence* presence = nullptr;         // null: no channel announces it
  std::function<std::int64_t()> worker_id;   // 0: not known yet
  std::function<bool()> others_listen = {};  // is it worth a NOTIFY?
  std::function<void(const std::string&)> log = {};
};

class PresenceExchange {
 public:
  // `wake` is signalled when others have written something.
  PresenceExchange(PresenceExchangeOptions options, Wake& wake);
  ~PresenceExchange();

  void start();
  void stop();

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  void follow(PgConnection& connection);
  void complain(const SqlError& error);
  void rest(Clock::time_point until);
  void write(PresenceStore& store, std::int64_t worker);
  void write_rows(PresenceStore& store, std::int64_t worker, std::vector<SubscriberRow> rows);
  [[nodiscard]] std::vector<SubscriberRow> take_changes(bool& all);
  void purge(PresenceStore& store, std::int64_t worker);
  void read(PresenceStore& store, std::int64_t worker);
  void read_server(PresenceStore& store, const StreamServer& server);

  PresenceExchangeOptions options_;
  Wake& wake_;
  std::atomic<bool> stopping_{false};

  // the thread's own
  bool was_connected_ = false;
  bool went_well_ = false;
  std::string last_error_;  // that was said in the log
  bool begun_ = false;      // what is in the table is ours, and all that was taken
  std::int64_t begun_as_ = 0;
  std::int64_t version_ = 0;
  std::int64_t gone_version_ = 0;   // newest that has rows without connections
  std::int64_t purge_version_ = 0;  // up to here they go next time; 0: none
  Clock::time_point next_purge_{};
  PresenceMirror mirror_;
  std::map<std::int64_t, std::int64_t> read_;  // how far, by process
  Clock::time_point lenient_until_{};          // who is not there yet may still come back
  std::uint64_t followed_generation_ = 0;

  std::jthread thread_;
};

}  // namespace spillway
