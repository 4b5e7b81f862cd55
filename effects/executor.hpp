// Carries effects out on a session, inside whatever transaction its caller holds.
//
// compile() checks an event's effects against the database's catalogue and turns them into writes
// and broadcasts; apply() carries the writes of many events out, grouped. Broadcasts are left to
// the Outbox, which must come last in the transaction, and logs to whoever knows that it has
// committed. One session, one thread. Errors: EffectError from compile() (that event is at fault,
// nothing was written), SqlError from apply() (the transaction must be rolled back; some event is
// at fault), ConnectionLost from both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "effects/effect_kinds.hpp"
#include "effects/own_writes.hpp"
#include "effects/sql.hpp"
#include "effects/write_compiler.hpp"
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
  std::vector<Log> logs;
  bool webhooks = false;  // some of the writes are webhooks, to be sent after the commit
};

class Executor {
 public:
  // `as_json`: rows are kept as JSON, for somebody to read, also where that is not the quickest.
  explicit Executor(SqlSession& session, bool as_json = false)
      : session_(session), compiler_(session, as_json) {}

  // Effects of other kinds than these are passed over.
  [[nodiscard]] CompiledEffects compile(const Effects& effects, const EffectOrigin& origin,
                                        const EffectKinds& kinds = EffectKinds::all());

  // Grouped: the same rows as one by one, in fewer statements. They are sent; what the server says
  // of them comes with the session's finish(), or whatever waits next.
  void apply(std::span<const CompiledEffects* const> events);

  // One statement per effect; a SqlError names the effect's index, kind and table. `applied` hears
  // of each and of the rows it wrote.
  void apply_each(const CompiledEffects& event,
                  const std::function<void(const Write& write, std::size_t rows)>& applied = {});

  // The schema may have changed: looks everything up anew. Not while compiled effects are in use.
  void forget_schema() { compiler_.forget_schema(); }

 private:
  SqlSession& session_;
  WriteCompiler compiler_;
  OwnWrites own_;
};

}  // namespace spillway
