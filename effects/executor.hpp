// Carries effects out on a session, inside whatever transaction its caller holds.
//
// compile() checks an event's effects against the database's catalogue and turns them into writes
// and broadcasts; apply() carries the writes of many events out, grouped. Broadcasts are left to
// the Outbox, which must come last in the transaction. One session, one thread. Errors: EffectError
// from compile() (that event is at fault, nothing was written), SqlError from apply() (the
// transaction must be rolled back; some event is at fault), ConnectionLost from both.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "effects/sql.hpp"
#include "effects/table_catalog.hpp"
#include "effects/write_group.hpp"
#include "spillway/effect.hpp"

namespace spillway {

struct PendingBroadcast {
  std::string channel;
  std::string event_type;
  std::string data_json;  // what the outbox keeps
  std::string text;       // what streams send, when it differs from data_json (data is a string)
  bool is_text = false;
  bool ephemeral = false;
};

// The effects of one event, checked and ready.
struct CompiledEffects {
  std::vector<Write> writes;
  std::vector<PendingBroadcast> broadcasts;
};

class Executor {
 public:
  explicit Executor(SqlSession& session) : session_(session), catalog_(session) {}

  [[nodiscard]] CompiledEffects compile(const Effects& effects);

  // Grouped: the same rows as one by one, in fewer statements.
  void apply(std::span<const CompiledEffects* const> events);

  // One statement per effect; a SqlError names the effect's index, kind and table.
  void apply_each(const CompiledEffects& event);

  // The schema may have changed: looks everything up anew. Not while compiled effects are in use.
  void forget_schema();

 private:
  void compile_insert(const Insert& insert, std::size_t index, CompiledEffects& compiled);
  std::shared_ptr<const WriteShape> insert_shape(const Insert& insert, const json& row,
                                                 std::size_t index);

  SqlSession& session_;
  TableCatalog catalog_;
  std::unordered_map<std::string, std::shared_ptr<const WriteShape>> shapes_;
  std::uint64_t shape_number_ = 0;
  std::string key_;  // scratch for the look-up of shapes
};

}  // namespace spillway
