#include "effects/executor.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "effects/effect_error.hpp"
#include "effects/names.hpp"
#include "effects/serialize.hpp"
#include "sse/channel_name.hpp"

namespace spillway {
namespace {

PendingBroadcast compile_broadcast(const SSEBroadcast& broadcast, std::size_t index) {
  if (auto problem = sse::problem_of_channel(broadcast.channel); !problem.empty())
    throw EffectError(index, "SSEBroadcast", "channel", problem);
  if (auto problem = problem_of_event_type(broadcast.event_type); !problem.empty())
    throw EffectError(index, "SSEBroadcast", "event_type", problem);
  PendingBroadcast pending;
  pending.channel = broadcast.channel;
  pending.event_type = broadcast.event_type;
  pending.data_json = serialize(broadcast.data, index, "SSEBroadcast", "data");
  pending.is_text = broadcast.data.is_string();
  if (pending.is_text) pending.text = broadcast.data.get_ref<const std::string&>();
  pending.ephemeral = broadcast.ephemeral;
  return pending;
}

void check_log(const Log& log, std::size_t index) {
  constexpr std::array<std::string_view, 6> levels{"trace",   "debug", "info",
                                                   "warning", "error", "critical"};
  if (std::find(levels.begin(), levels.end(), log.level) == levels.end())
    throw EffectError(
        index, "Log", "level",
        "must be trace, debug, info, warning, error or critical, not \"" + log.level + "\"");
  if (!is_utf8(log.message))
    throw EffectError(index, "Log", "message", "contains text that is not valid UTF-8");
  if (!log.fields.is_object())
    throw EffectError(index, "Log", "fields",
                      std::string("must be an object, not ") + log.fields.type_name());
  static_cast<void>(serialize(log.fields, index, "Log", "fields"));
}

// One overload per kind: a new kind does not compile until somebody says what becomes of it.
struct Compile {
  WriteCompiler& compiler;
  const OwnWrites& own;
  const EffectOrigin& origin;
  std::size_t index;
  CompiledEffects& compiled;

  void operator()(const Insert& effect) const { compiler.compile(effect, index, compiled.writes); }
  void operator()(const Upsert& effect) const { compiler.compile(effect, index, compiled.writes); }
  void operator()(const Update& effect) const { compiler.compile(effect, index, compiled.writes); }
  void operator()(const Delete& effect) const { compiler.compile(effect, index, compiled.writes); }
  void operator()(const SSEBroadcast& effect) const {
    compiled.broadcasts.push_back(compile_broadcast(effect, index));
  }
  void operator()(const ScheduleEvent& effect) const {
    own.compile(effect, index, origin, compiled.writes);
  }
  void operator()(const TriggerWebhook& effect) const {
    own.compile(effect, index, origin, compiled.writes);
    compiled.webhooks = true;
  }
  void operator()(const KVSet& effect) const { own.compile(effect, index, compiled.writes); }
  void operator()(const KVDelete& effect) const { own.compile(effect, index, compiled.writes); }
  void operator()(const Log& effect) const {
    check_log(effect, index);
    compiled.logs.push_back(effect);
  }
};

}  // namespace

CompiledEffects Executor::compile(const Effects& effects, const EffectOrigin& origin,
                                  const EffectKinds& kinds) {
  CompiledEffects compiled;
  for (std::size_t index = 0; index < effects.size(); ++index)
    if (kinds.contains(effects[index].index()))
      std::visit(Compile{compiler_, own_, origin, index, compiled}, effects[index]);
  return compiled;
}

void Executor::apply(std::span<const CompiledEffects* const> events) {
  WriteGrouping grouping;
  for (const CompiledEffects* event : events)
    for (const Write& write : event->writes) grouping.add(write);
  for (const WriteGroup& group : grouping.take()) send_rows(session_, *group.shape, group.rows);
}

void Executor::apply_each(
    const CompiledEffects& event,
    const std::function<void(const Write& write, std::size_t rows)>& applied) {
  for (const Write& write : event.writes) {
    std::size_t affected = 0;
    try {
      send_rows(session_, *write.shape, write.rows,
                [&](const Rows& rows) { affected = rows.affected(); });
      session_.finish();
      if (applied) applied(write, affected);
    } catch (const SqlError& error) {
      throw SqlError(error.sqlstate(), "effect " + std::to_string(write.effect) + " (" +
                                           write.shape->label + "): " + error.what());
    }
  }
}

}  // namespace spillway
