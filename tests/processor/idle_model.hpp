// A model of PostgreSQL, of those who insert and of those who run, in steps that others may come
// between. The runners decide with the product's own IdleProtocol and LaneMarks; what comes when,
// and what else happens (rollbacks, lost connections, polls, armings whose time is over, promises
// that are not kept in time), the seed decides. Pure.
//
// An arming's time is over only while nobody sleeps or is about to, since who sleeps prolongs it
// long before. Not in it: a process that is killed after it has disarmed, or armed and not yet
// looked. That may cost one fallback poll.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace spillway::test {

// Wrong protocols, to show that the model would notice.
enum class Mistake {
  none,
  no_bound,               // sleeps whatever transactions still run
  bound_lost_when_found,  // an arming that finds the queue armed forgets the bound of the last
  bound_lost_with_the_session,  // a new connection that finds the queue armed owes nothing
  part_of_the_lanes_counts,     // a look that did not get every lane satisfies the bound
  bound_before_arming,          // the xid is taken before setval, not after
  signals_read_too_late,        // a signal that came during the look is not noticed
  disarmed_owes_nothing,        // who has disarmed and finds the queue armed again takes no bound
  clock_read_too_late,          // an insert reads until when it is armed first, and the clock then
  prolonged_unasked,            // who prolongs an arming believes that it was in force all the time
  stale_promise,                // relies on a sibling that lingered once, as if it still did
  lingers_and_sleeps,           // sleeps without arming when the flow ends
  sleeps_after_a_cut_look,      // takes any look that found something for one that left nothing
  sleeps_after_any_arming,      // and whatever was known of the arming
};

struct Interleaving {
  std::string trouble;  // "" when all went well: what went wrong
  int events = 0;       // handled
  int armings = 0;
  int sleeps = 0;
  int lingered = 0;  // times
  int relied = 0;
  int rested = 0;  // slept right after a look that found something
};

// Runs one until everybody sleeps and nobody inserts any more. At most 16 lanes.
[[nodiscard]] Interleaving interleave(std::uint64_t seed, Mistake mistake, std::size_t lanes = 3);

}  // namespace spillway::test
