#include "processor/lane_setting.hpp"

#include "processor/schema_change.hpp"
#include "processor/suspects.hpp"

namespace spillway {

bool set_lanes(SqlSession& session, int lanes, const std::function<void(const std::string&)>& log) {
  bool changed = false;
  std::string ended;
  change_schema(session, "the change of lanes", log, [&] {
    changed = session.exec("SELECT spillway.lane_count()").integer<int>(0, 0) != lanes;
    if (!changed) return;
    own_every_lane(session);
    // What a process had in hand when it ended is first in the lanes as they are now.
    ended = note_ended_workers(session);
    session.run({"", "SELECT spillway.set_lanes($1::int)"}, {std::to_string(lanes).c_str()});
  });
  if (!ended.empty() && log) log(ended);
  return changed;
}

}  // namespace spillway
