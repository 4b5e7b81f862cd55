// Turns effects that write rows of spillway's own tables into writes: scheduled events, webhooks,
// the key-value store. Pure. Errors: EffectError.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "effects/write_group.hpp"
#include "spillway/effect.hpp"

namespace spillway {

// The event whose effects these are; events that it schedules carry it on.
struct EffectOrigin {
  std::int64_t event_id = 0;
  std::string_view correlation_id;
};

class OwnWrites {
 public:
  OwnWrites();

  void compile(const ScheduleEvent& effect, std::size_t index, const EffectOrigin& origin,
               std::vector<Write>& writes) const;
  void compile(const TriggerWebhook& effect, std::size_t index, const EffectOrigin& origin,
               std::vector<Write>& writes) const;
  void compile(const KVSet& effect, std::size_t index, std::vector<Write>& writes) const;
  void compile(const KVDelete& effect, std::size_t index, std::vector<Write>& writes) const;

 private:
  using Shape = std::shared_ptr<const WriteShape>;

  Shape schedule_;
  Shape webhook_;
  Shape kv_;
};

}  // namespace spillway
