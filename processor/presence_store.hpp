// spillway.subscribers and spillway.stream_servers: what each process says of its open streams.
//
// A process has one writer, whose versions go up with each write; readers remember how far they
// have read each process. Both tables are empty after a crash of PostgreSQL: write() then says so,
// and the writer begins anew. One session, one thread. Errors: SqlError, ConnectionLost.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "effects/sql.hpp"
#include "processor/maintenance.hpp"

namespace spillway {

// member: empty stands for all whose name is not told. No connections: it is to go.
struct SubscriberRow {
  std::string channel;
  std::string member;
  std::uint32_t connections = 0;
  bool told = false;  // others read it (--presence)

  bool operator==(const SubscriberRow&) const = default;
};

struct StreamServer {
  std::int64_t worker = 0;
  std::int64_t version = 0;
  std::int64_t floor = 0;  // whoever has read less than this begins anew

  bool operator==(const StreamServer&) const = default;
};

class PresenceStore {
 public:
  explicit PresenceStore(SqlSession& session) : session_(session) {}

  // --- the writer: rows of `worker` (spillway.workers.id) ---
  // Takes away what there is of it; what is written from now on is all.
  void begin(std::int64_t worker, std::int64_t version);
  // In one statement. False: what was written before is gone; begin() and write all.
  [[nodiscard]] bool write(std::int64_t worker, std::int64_t version,
                           const std::vector<SubscriberRow>& rows);
  [[nodiscard]] bool is_there(std::int64_t worker);
  // Removes rows without connections that others have had the time to read.
  void purge(std::int64_t worker, std::int64_t version);
  void leave(std::int64_t worker);
  void notify();

  // --- readers ---
  // The other processes that live.
  [[nodiscard]] std::vector<StreamServer> others(std::int64_t own);
  // What a process has written after `version`, of these channels, in order; at most `limit`.
  struct Newer {
    std::int64_t version = 0;
    SubscriberRow row;
  };
  [[nodiscard]] std::vector<Newer> newer(std::int64_t worker, std::int64_t version,
                                         const std::vector<std::string>& channels,
                                         std::size_t limit);
  // All that these processes have on these channels.
  [[nodiscard]] std::vector<std::pair<std::int64_t, SubscriberRow>> on_channels(
      const std::vector<std::int64_t>& workers, const std::vector<std::string>& channels,
      std::size_t limit);

 private:
  SqlSession& session_;
};

struct ChannelCount {
  std::string channel;
  std::uint64_t subscribers = 0;
};
// Subscribers in other living processes of the channels that start with `prefix`.
[[nodiscard]] std::vector<ChannelCount> count_elsewhere(SqlSession& session, std::int64_t own,
                                                        const std::string& prefix);

// Removes rows of processes that do not live.
[[nodiscard]] MaintenanceTask presence_upkeep();

}  // namespace spillway
