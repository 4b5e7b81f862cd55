// How long things are kept: broadcasts by age and count, in partitions that are dropped whole; done
// events, finished webhooks and responses by age, in small steps. The SQL behind it is in
// migrations/0015_retention.sql and 0018_channel_floors.sql.
//
// Ages are judged by the database's clock. Several processes may do all of this at once: where they
// have different options, the strictest one decides. One session, one thread. Errors: SqlError,
// ConnectionLost.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "effects/sql.hpp"
#include "processor/maintenance.hpp"

namespace spillway {

// An unset age or count: for ever.
struct RetentionOptions {
  std::optional<std::chrono::milliseconds> broadcasts{std::chrono::hours(72)};
  std::optional<std::int64_t> broadcasts_count{10'000'000};
  std::int64_t channel_floors = 1'000'000;  // channels of which it is known what they lost; 0: none
  std::optional<std::chrono::milliseconds> events;
  std::optional<std::chrono::milliseconds> webhooks{std::chrono::hours(24 * 30)};
  std::size_t batch = 5000;  // rows that one transaction removes, at most
};

// Positions of one partition: a tenth of what is kept, so that what is beyond the count stays below
// a tenth of it, and few enough partitions that reading over them costs nothing.
[[nodiscard]] std::int64_t partition_rows(const RetentionOptions& options);

// The pause after a step of `took`, so that steps take at most a fifth of the time.
[[nodiscard]] std::chrono::milliseconds pause_after(std::chrono::steady_clock::duration took);

class RetentionStore {
 public:
  explicit RetentionStore(SqlSession& session) : session_(session) {}

  // `busy`: somebody is in the way, such as a long transaction; try again later.
  enum class Outcome { nothing, done, busy };

  // Keeps a partition of `rows` positions ready for what is to come, and closes the one that is
  // written to when it has become too large, or its oldest row older than `age`.
  Outcome extend_broadcasts(std::int64_t rows, std::optional<std::chrono::milliseconds> age);

  // Drops the oldest partition of broadcasts, if it is due: all of it older than `age`, or beyond
  // the last `count` positions. Before that, in a transaction of its own, it writes down what each
  // channel loses, for the last `channel_floors` channels that lost something.
  Outcome drop_broadcasts(std::optional<std::chrono::milliseconds> age,
                          std::optional<std::int64_t> count,
                          std::int64_t channel_floors = RetentionOptions{}.channel_floors);

  // Now, less an age, as the database's clock has it; for the functions below.
  [[nodiscard]] std::string time_before_now(std::chrono::milliseconds age);

  // Webhooks that were finished before; responses given before. Returns how many it removed (with
  // `dry_run`: how many of the first `most` it would); fewer than `most`: these were all.
  std::size_t prune_webhooks(const std::string& before, std::size_t most, bool dry_run = false);
  std::size_t prune_results(const std::string& before, std::size_t most, bool dry_run = false);

  // Positions and bytes of the partitions whose rows are all older.
  struct OldBroadcasts {
    std::int64_t positions = 0;
    std::int64_t bytes = 0;
  };
  [[nodiscard]] OldBroadcasts old_broadcasts(const std::string& before);

 private:
  SqlSession& session_;
};

// Walks the log from its oldest event on and removes what may go, a step at a time.
class EventPruner {
 public:
  struct Options {
    std::string before;  // a timestamp: created and due before it
    std::size_t batch = 5000;
    bool dead = false;  // dead events and their dead letters too
    bool dry_run = false;
  };
  explicit EventPruner(Options options, std::int64_t after = 0)
      : options_(std::move(options)), last_id_(after) {}

  struct Step {
    std::int64_t looked_at = 0;
    std::int64_t pruned = 0;
    bool busy = false;  // another process is pruning; nothing was done
    bool last = false;  // nothing old lies behind
  };
  // One transaction.
  Step step(SqlSession& session);

  // Up to here the log has been looked at.
  [[nodiscard]] std::int64_t last_id() const { return last_id_; }

  // The first id that is younger than the limit, about; for a progress bar.
  [[nodiscard]] std::int64_t end(SqlSession& session) const;

 private:
  Options options_;
  std::int64_t last_id_;
};

// What every process of `run` does for it.
[[nodiscard]] std::vector<MaintenanceTask> retention_upkeep(const RetentionOptions& options);

}  // namespace spillway
