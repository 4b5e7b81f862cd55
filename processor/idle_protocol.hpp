// What a runner does after each look into the queue: look again, disarm, arm, linger, rely on a
// sibling, pause or sleep. The decisions of the wake protocol alone, without I/O and without a
// clock, so that a model can drive them through any interleaving
// (tests/processor/idle_protocol_test.cpp).
//
// Inserts notify only while the queue is armed. Before it sleeps a runner arms, and looks once
// more. An insert that was in flight when somebody armed may have read "not armed", and will not
// notify; it is the one who armed that sees to it. It sleeps only after a look that
//   - has a bound behind it: its xmin has reached an xid that was given after the arming, so that
//     all who may have read "not armed" have ended; and
//   - owned every lane: a lane that somebody else held was maybe read from an older snapshot.
// Until there was such a look the bound is kept, whatever was found in the meantime and however
// often it arms again. Who finds the queue armed owes nothing, unless it has disarmed since its
// last bound (a sibling that prolongs an arming takes no bound), or is a new session, which may
// have taken over from one that did. A look that found something counts as much as one that found
// nothing, if it has finished all of that: who is woken for one event sleeps again after one look.
//
// While events flow, several to a look, a runner that has caught up does not arm, because the next
// inserts would all notify: it lingers, that is looks again a little later, at every lane. One
// runner of a process promises to look again soon (linger.hpp); its siblings rely on that instead
// of arming, and look for themselves when they are called or as soon as the promise is not kept.
// Who makes one event at a time is not a flow, and never waits for this.
//
// One per connection of a runner, one thread. No errors.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace spillway {

class IdleProtocol {
 public:
  struct Options {
    // NOTIFY is a hint; this is the guarantee.
    std::chrono::milliseconds fallback_poll{1000};
    // From this many events on, or after so many looks in a row that found any, inserts need not
    // notify any more.
    std::size_t busy_batch = 64;
    int busy_looks = 4;
    // It is a flow from so many looks that found several events, of which each makes up for four
    // that found one (while inserts notify they come one by one, however many there are), and none
    // any more after so many in a row that did not.
    std::size_t several = 2;
    int flow_begins = 2;
    int flow_ends = 16;
    // Between the looks of one that lingers.
    std::chrono::milliseconds linger{2};
  };

  // A look into the queue: a batch that was committed.
  struct Look {
    std::size_t taken = 0;   // events
    bool all_lanes = false;  // it owned every lane
    bool armed = false;      // inserts notified when it began
    std::uint64_t xmin = 0;  // of a snapshot older than what it read
    bool heavy = false;      // it left something behind, or took long: one runner may not be enough
    bool promised = false;   // a sibling will look again soon
    bool lasting = false;    // it is armed, and will be for longer than a poll
    bool complete = false;   // of the lanes that it owned it left nothing, and nothing comes of it
  };

  enum class Step {
    look,    // again, at once
    disarm,  // there is enough to do: QueueStore::disarm(), call the siblings, then look
    arm,     // QueueStore::arm(needs_bound()), then armed(), then look
    linger,  // wait `most`, then look; if a sibling was first to promise: rely
    rely,    // wait for a signal, or until no sibling's promise holds, then look
    pause,   // wait `most` or for a signal, then look
    sleep,   // the same; nothing is left behind
  };
  struct Next {
    Step step = Step::look;
    std::chrono::milliseconds most{0};
    // Its siblings may rely on it for a while, from now on; without this they may not any more.
    bool promise = false;
  };

  explicit IdleProtocol(Options options) : options_(options) {}

  // Whether the next look takes every lane that is free, or only this runner's share.
  [[nodiscard]] bool sweep() const { return sweep_; }

  // For pause, sleep and rely, signals count from before the look.
  [[nodiscard]] Next after(const Look& look);

  // Whether arming must give a bound even when the queue is armed already.
  [[nodiscard]] bool needs_bound() const { return owes_; }

  // What QueueStore::arm() returned; bound 0: somebody else had armed.
  void armed(std::uint64_t bound, std::optional<std::chrono::milliseconds> next_due);

 private:
  void follow_flow(std::size_t taken);
  [[nodiscard]] bool may_sleep_after(const Look& look) const;

  Options options_;
  bool sweep_ = true;  // nothing was found last time
  int busy_ = 0;       // looks in a row that found something
  int evidence_ = 0;   // of a flow, in quarters of a look that found several
  int flow_ = 0;       // looks until it is no flow any more; 0: it is none
  bool armed_ = false;
  bool owes_ = true;                   // has disarmed, or not armed yet
  std::uint64_t bound_ = 0;            // that a look must reach; 0: none
  std::chrono::milliseconds rest_{0};  // until the next poll, or something scheduled is due
  std::chrono::milliseconds pause_{1};
};

}  // namespace spillway
