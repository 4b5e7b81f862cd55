#include "tests/processor/idle_model.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "processor/idle_protocol.hpp"
#include "processor/lane_marks.hpp"

namespace spillway::test {
namespace {

using std::chrono::milliseconds;
using Step = IdleProtocol::Step;

// xorshift: a million interleavings take some hundred million numbers.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {
    for (int i = 0; i < 4; ++i) static_cast<void>(below(2));
  }
  unsigned below(unsigned most) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<unsigned>((state_ >> 33) % most);
  }
  bool one_in(unsigned many) { return below(many) == 0; }

 private:
  std::uint64_t state_;
};

constexpr std::size_t most_lanes = 16;
constexpr std::size_t processes = 2;
constexpr std::size_t most_runners = 3;  // the first two in one process
constexpr std::size_t inserters = 3;
constexpr std::size_t actors = inserters + processes + 2 + most_runners;
constexpr int most_rows = 24;

class Model {
 public:
  Model(std::uint64_t seed, Mistake mistake, std::size_t lanes)
      : lanes_(lanes), random_(seed), mistake_(mistake) {
    until_ = random_.below(3);
    options_.busy_batch = 2;
    options_.busy_looks = 2;
    options_.several = 1 + random_.below(2);
    options_.flow_begins = 1 + static_cast<int>(random_.below(2));
    options_.flow_ends = 2;
    burst_ = 1u << 2 * random_.below(4);
    to_insert_ = 1 + random_.below(4);
    for (std::size_t i = 0; i < processes; ++i) marks_[i] = std::make_unique<LaneMarks>(lanes_);
    runners_.resize(1 + random_.below(most_runners));
    actors_ = static_cast<unsigned>(actors - most_runners + runners_.size());
    for (std::size_t i = 0; i < runners_.size(); ++i) {
      runners_[i].process = i < 2 ? 0 : 1;
      runners_[i].first_lane = i % lanes_;
      runners_[i].wanted = lanes_;
      runners_[i].idle = fresh();
    }
    if (!random_.one_in(3)) {  // everybody is asleep already, or has just been
      until_ = 1 + random_.below(2);
      const bool asleep = random_.one_in(2);
      for (Runner& one : runners_) {
        one.idle.armed(1, std::nullopt);
        static_cast<void>(one.idle.after({0, true, true, 1}));
        one.had_bound = true;
        one.believes = one.asleep = asleep;
        one.at = asleep ? Runner::At::wait : Runner::At::begin;
      }
    }
    owner_.fill(nobody);
    promise_.fill(nobody);
  }

  // "" when all went well, else what went wrong.
  std::string run() {
    // While there is something to insert anything may come in any order; then polls stop, and only
    // notifications are left to wake anybody.
    for (int step = 0; to_insert_ > 0 || inserting(); ++step) {
      if (step > 100'000) return "the inserters never came to an end";
      const unsigned who = next_actor(0);
      if (who < inserters)
        insert(inserters_[who]);
      else
        act(who - static_cast<unsigned>(inserters), true);
      if (!trouble_.empty()) return trouble_;
    }
    for (int step = 0; !quiet(); ++step) {
      if (step > 100'000) return "the runners never came to rest";
      const unsigned who = next_actor(inserters);
      act(who - static_cast<unsigned>(inserters), false);
      if (!trouble_.empty()) return trouble_;
    }
    for (int row = 0; row < rows_; ++row)
      if (state_of_[static_cast<std::size_t>(row)] == RowState::visible)
        return "an event was left behind while everybody slept";
    return trouble_;
  }

  [[nodiscard]] int armings() const { return armings_; }
  [[nodiscard]] int sleeps() const { return sleeps_; }
  [[nodiscard]] int events() const { return done_; }
  [[nodiscard]] int lingered() const { return lingered_; }
  [[nodiscard]] int relied() const { return relied_; }
  [[nodiscard]] int rested() const { return rested_; }

 private:
  static constexpr int nobody = -1;
  enum class RowState : std::uint8_t { uncommitted, visible, gone };

  struct Inserter {
    enum class At { idle, queue_row, read_clock, read_armed, decide, notify } at = At::idle;
    std::uint64_t xid = 0;
    std::uint64_t clock = 0;
    std::uint64_t until = 0;  // mistake: clock_read_too_late
    bool will_notify = false;
    std::array<int, 4> rows{};
    int count = 0;
  };

  struct Runner {
    enum class At {
      begin,
      snapshot,
      lock,
      read_armed,
      mark,
      read,
      remove,
      commit,
      unlock,
      settle,
      decide,
      disarm,
      arm_look,
      arm_set,
      arm_check,
      arm_bound,
      wait,
      linger,
      rely
    } at = At::begin;
    std::size_t process = 0;
    std::size_t first_lane = 0;
    IdleProtocol idle{{}};
    std::uint64_t signals = 0;
    std::size_t wanted = 0;
    std::size_t tried = 0;
    std::vector<std::size_t> owned{};
    std::vector<LaneMarks::Claim> claims{};
    std::vector<int> taken{};
    bool cut = false;
    std::uint64_t xmin = 0;
    std::uint64_t xid = 0;
    bool saw_armed = false;
    bool saw_lasting = false;
    bool bound_gone = false;  // mistake: bound_lost_when_found
    std::uint64_t bound = 0;
    std::uint64_t until = 0;  // it was armed when this runner came to arm
    bool already = false;
    bool had_bound = false;  // in this session
    bool believes = false;   // that it is armed
    bool asleep = false;
    bool lingered = false;  // since it armed last
    bool ghost = false;     // its last session's transaction is still there
    std::vector<std::size_t> ghost_lanes{};
    std::uint64_t ghost_xid = 0;
  };

  [[nodiscard]] IdleProtocol fresh() const { return IdleProtocol(options_); }

  // Anybody may go on alone for a while, or stand still for a while between two steps: else nothing
  // ever stays in flight while somebody else goes all the way to sleep.
  unsigned next_actor(unsigned first) {
    ++now_;
    if (random_.one_in(16))
      frozen_until_[random_.below(actors_)] = now_ + random_.below(1u << random_.below(11));
    if (current_ >= first && frozen_until_[current_] <= now_ && !random_.one_in(burst_))
      return current_;
    for (int tries = 0;; ++tries) {
      current_ = first + random_.below(actors_ - first);
      if (frozen_until_[current_] <= now_) return current_;
      if (tries > 8) now_ += 8;
    }
  }

  // Where others may do harm by coming between, they do so more often.
  void stall() { frozen_until_[current_] = now_ + random_.below(1u << random_.below(10)); }

  void act(unsigned who, bool polls) {
    if (who < processes)
      deliver(who);
    else if (who == processes)
      end_ghost();
    else if (who == processes + 1)
      pass_time(polls);
    else
      advance(runners_[who - processes - 2], polls);
  }

  // ---- until when it is armed; one of the clock is half of what an arming lasts

  [[nodiscard]] bool is_armed() const { return clock_ < until_; }
  void pass_time(bool polls) {
    const bool needed = std::any_of(runners_.begin(), runners_.end(), [](const Runner& one) {
      return one.believes || one.saw_lasting;
    });
    if (polls && (!needed || clock_ + 1 < until_)) ++clock_;
  }

  // ---- transactions

  std::uint64_t begin_xid() {
    running_.push_back(next_xid_);
    return next_xid_++;
  }
  void end_xid(std::uint64_t xid) {
    newest_ended_ = std::max(newest_ended_, xid);
    std::erase(running_, xid);
  }
  // A snapshot knows only xids up to the newest that has ended: those that run beyond it do not
  // lower its xmin.
  [[nodiscard]] std::uint64_t snapshot_xmin() const {
    std::uint64_t xmin = newest_ended_ + 1;
    for (const std::uint64_t xid : running_) xmin = std::min(xmin, xid);
    return xmin;
  }

  // ---- an insert: the event, its queue row, a look at `armed`, COMMIT, then the notification

  [[nodiscard]] bool inserting() const {
    return std::any_of(inserters_.begin(), inserters_.end(),
                       [](const Inserter& one) { return one.at != Inserter::At::idle; });
  }

  void insert(Inserter& one) {
    using At = Inserter::At;
    switch (one.at) {
      case At::idle:
        if (to_insert_ == 0 || rows_ + 4 > most_rows) {
          to_insert_ = 0;
          return;
        }
        --to_insert_;
        one = {};
        one.xid = begin_xid();
        one.at = At::queue_row;
        return;
      case At::queue_row: {
        // seq is drawn in the trigger, by when the transaction has its xid.
        const int row = rows_++;
        lane_of_[static_cast<std::size_t>(row)] = random_.below(static_cast<unsigned>(lanes_));
        state_of_[static_cast<std::size_t>(row)] = RowState::uncommitted;
        one.rows[static_cast<std::size_t>(one.count++)] = row;
        one.at = At::read_clock;
        return;
      }
      case At::read_clock:
        one.clock = clock_;
        one.until = until_;
        one.at = At::read_armed;
        if (random_.one_in(4)) stall();
        return;
      case At::read_armed:
        if (mistake_ == Mistake::clock_read_too_late)
          one.clock = clock_;
        else
          one.until = until_;
        one.will_notify = one.will_notify || one.clock < one.until;
        one.at = At::decide;
        if (random_.one_in(2)) stall();
        return;
      case At::decide:
        if (one.count < 4 && rows_ < most_rows && random_.one_in(4)) {
          one.at = At::queue_row;  // another statement
          return;
        }
        if (random_.one_in(8)) {
          for (int i = 0; i < one.count; ++i)
            set(one.rows[static_cast<std::size_t>(i)], RowState::gone);
          end_xid(one.xid);
          one.at = At::idle;
          return;
        }
        for (int i = 0; i < one.count; ++i)
          set(one.rows[static_cast<std::size_t>(i)], RowState::visible);
        end_xid(one.xid);
        one.at = one.will_notify ? At::notify : At::idle;
        return;
      case At::notify:
        for (auto& pending : pending_) pending = true;
        one.at = At::idle;
        return;
    }
  }

  // One of those that wait is woken; the others do not hear of it.
  void deliver(std::size_t process) {
    if (!pending_[process]) return;
    pending_[process] = false;
    ++wake_[process];
    std::vector<Runner*> waiting;
    for (Runner& one : runners_)
      if (one.process == process && one.signals + 1 == wake_[process] &&
          (one.at == Runner::At::wait || one.at == Runner::At::rely))
        waiting.push_back(&one);
    if (waiting.empty()) return;
    const std::size_t woken = random_.below(static_cast<unsigned>(waiting.size()));
    for (std::size_t i = 0; i < waiting.size(); ++i)
      if (i != woken) waiting[i]->signals = wake_[process];
  }

  // ---- a runner: one look, then what the protocol says

  void advance(Runner& one, bool polls) {
    using At = Runner::At;
    const int self = static_cast<int>(&one - runners_.data());
    if (polls && one.at > At::begin && one.at < At::decide && !one.ghost && random_.one_in(300)) {
      lose_connection(one);
      return;
    }
    switch (one.at) {
      case At::begin:
        one.asleep = false;
        one.signals = wake_[one.process];
        one.wanted = one.idle.sweep() ? lanes_ : 1 + random_.below(2);
        one.first_lane = (one.first_lane + one.wanted) % lanes_ + (one.wanted == lanes_ ? 1 : 0);
        one.tried = 0;
        one.owned.clear();
        one.claims.clear();
        one.taken.clear();
        one.cut = false;
        one.xmin = one.xid = 0;
        one.saw_armed = one.saw_lasting = false;
        one.at = At::snapshot;
        return;
      case At::snapshot:
        one.xmin = snapshot_xmin();
        one.at = random_.one_in(2) ? At::read_armed : At::lock;
        return;
      case At::lock: {
        // One try at a time: others lock and unlock between.
        const std::size_t lane = (one.first_lane + one.tried++) % lanes_;
        if (owner_[lane] == nobody) {
          owner_[lane] = self;
          one.owned.push_back(lane);
        }
        if (one.owned.size() < one.wanted && one.tried < lanes_) return;
        if (one.owned.empty()) {  // rolled back; no row, no xmin
          one.xmin = 0;
          one.saw_armed = one.saw_lasting = false;
          one.at = At::decide;
          return;
        }
        one.at = At::mark;
        return;
      }
      case At::read_armed:
        one.saw_armed = is_armed();
        // A look that takes so long that this is no longer so is heavy.
        one.saw_lasting = clock_ + 1 < until_;
        one.at = At::lock;
        return;
      case At::mark:
        for (const std::size_t lane : one.owned)
          one.claims.push_back(marks_[one.process]->begin(lane, one.xmin));
        one.at = At::read;
        return;
      case At::read: {
        const std::size_t limit = 1 + random_.below(4);
        for (std::size_t i = 0; i < one.owned.size() && one.taken.size() < limit; ++i)
          for (int row = 0; row < rows_ && one.taken.size() < limit; ++row)
            if (lane_of_[static_cast<std::size_t>(row)] == one.owned[i] &&
                state_of_[static_cast<std::size_t>(row)] == RowState::visible &&
                seq_of(row) >= one.claims[i].from)
              one.taken.push_back(row);
        one.cut = one.taken.size() == limit;
        one.at = one.taken.empty() ? At::unlock : At::remove;
        return;
      }
      case At::remove:
        one.xid = begin_xid();
        one.at = At::commit;
        return;
      case At::commit:
        for (const int row : one.taken) {
          if (state_of_[static_cast<std::size_t>(row)] != RowState::visible)
            trouble_ = "an event was handled twice";
          set(row, RowState::gone);
          ++done_;
        }
        end_xid(one.xid);
        one.at = At::unlock;
        return;
      case At::unlock:  // locks go after the transaction has ended for everybody else
        for (const std::size_t lane : one.owned) owner_[lane] = nobody;
        one.at = At::settle;
        return;
      case At::settle:
        for (std::size_t i = 0; i < one.owned.size(); ++i) {
          std::optional<std::uint64_t> last;
          for (const int row : one.taken)
            if (lane_of_[static_cast<std::size_t>(row)] == one.owned[i])
              last = std::max(last.value_or(0), seq_of(row));
          if (one.cut && !last) continue;
          marks_[one.process]->committed(one.owned[i], one.claims[i], {last, one.cut, one.xid});
        }
        one.at = At::decide;
        return;
      case At::decide:
        decide(one);
        return;
      case At::disarm:
        until_ = 0;
        ++wake_[one.process];
        one.at = At::begin;
        return;
      case At::arm_look:
        ++armings_;
        one.already = is_armed();
        one.until = until_;
        if (mistake_ == Mistake::bound_before_arming) {
          one.bound = next_xid_++;
          end_xid(one.bound);
        }
        if (!one.already || random_.one_in(2)) {  // or it is for too short a time
          one.at = At::arm_set;
          stall();
          return;
        }
        believe_armed(one);
        return;
      case At::arm_set:
        // setval gives its own transaction an xid before it acts.
        one.xid = next_xid_++;
        until_ = clock_ + 2;
        one.believes = true;
        end_xid(one.xid);
        one.at = At::arm_check;
        return;
      case At::arm_check:
        if (mistake_ != Mistake::prolonged_unasked) one.already = clock_ < one.until;
        believe_armed(one);
        return;
      case At::arm_bound:
        if (mistake_ != Mistake::bound_before_arming) {
          one.bound = next_xid_++;
          end_xid(one.bound);
        }
        one.bound_gone = false;
        one.had_bound = true;
        one.idle.armed(one.bound, std::nullopt);
        one.at = At::begin;
        return;
      case At::wait:
        if (one.asleep) {
          if (wake_[one.process] != one.signals || (polls && random_.one_in(300))) {
            one.at = At::begin;
            one.believes = false;
          }
          return;
        }
        one.at = At::begin;  // a pause is over
        return;
      case At::linger:
        one.at = At::begin;
        return;
      case At::rely: {
        int& promise = promise_[one.process];
        if (random_.one_in(50)) promise = nobody;  // too much time has passed
        if (wake_[one.process] != one.signals || promise == nobody || promise == self)
          one.at = At::begin;
        return;
      }
    }
  }

  void believe_armed(Runner& one) {
    one.believes = true;
    if (one.already && !needs_bound(one)) {
      one.idle.armed(0, std::nullopt);
      one.at = Runner::At::begin;
    } else {
      one.at = Runner::At::arm_bound;
    }
  }
  [[nodiscard]] bool needs_bound(const Runner& one) const {
    const Mistake forgotten =
        one.had_bound ? Mistake::disarmed_owes_nothing : Mistake::bound_lost_with_the_session;
    return one.idle.needs_bound() && mistake_ != forgotten;
  }

  void decide(Runner& one) {
    using At = Runner::At;
    IdleProtocol::Look look;
    look.taken = one.taken.size();
    look.all_lanes = one.owned.size() == lanes_ ||
                     (mistake_ == Mistake::part_of_the_lanes_counts && !one.owned.empty());
    look.armed = one.saw_armed;
    look.xmin = one.xmin;
    if (look.taken > 0 && mistake_ == Mistake::bound_lost_when_found) one.bound_gone = true;
    if (one.bound_gone) look.all_lanes = true;
    if (mistake_ == Mistake::no_bound || one.bound_gone)
      look.xmin = std::numeric_limits<std::uint64_t>::max();
    const int self = static_cast<int>(&one - runners_.data());
    int& promise = promise_[one.process];
    look.heavy = look.taken > 0 && (one.cut || random_.one_in(8));
    look.promised = promise != nobody && promise != self;
    if (mistake_ == Mistake::stale_promise)
      look.promised = promised_once_[one.process] && promise != self;
    if (mistake_ == Mistake::sleeps_after_a_cut_look) look.heavy = false;
    if (look.heavy) ++wake_[one.process];
    look.lasting = one.saw_lasting || mistake_ == Mistake::sleeps_after_any_arming;
    look.complete = !one.cut || mistake_ == Mistake::sleeps_after_a_cut_look;
    const IdleProtocol::Next next = one.idle.after(look);
    if (next.promise && promise == nobody) promise = self;
    if (!next.promise && promise == self) promise = nobody;
    if (promise == self) promised_once_[one.process] = true;
    one.saw_lasting = false;
    if (look.taken > 0) {
      one.believes = next.step == Step::sleep;
      if (one.believes) ++rested_;
    }
    switch (next.step) {
      case Step::look:
        one.at = At::begin;
        return;
      case Step::disarm:
        one.at = At::disarm;
        return;
      case Step::arm:
        one.at = At::arm_look;
        if (mistake_ == Mistake::lingers_and_sleeps && one.lingered) {
          one.asleep = true;
          one.at = At::wait;
        }
        one.lingered = false;
        return;
      case Step::linger:
        one.believes = false;
        if (promise == self) {
          one.lingered = true;
          ++lingered_;
          one.at = At::linger;
          return;
        }
        [[fallthrough]];
      case Step::rely:
        one.believes = false;
        ++relied_;
        one.at = At::rely;
        if (mistake_ == Mistake::stale_promise) {
          one.asleep = true;
          one.at = At::wait;
        }
        return;
      case Step::sleep:
        one.asleep = true;
        ++sleeps_;
        [[fallthrough]];
      case Step::pause:
        if (mistake_ == Mistake::signals_read_too_late) one.signals = wake_[one.process];
        one.at = At::wait;
        return;
    }
  }

  // The session is cut in the middle of a look; the server notices at once, or later.
  void lose_connection(Runner& one) {
    one.ghost = true;
    if (one.at < Runner::At::settle) one.ghost_lanes = one.owned;
    one.ghost_xid = one.at == Runner::At::commit ? one.xid : 0;
    marks_[one.process]->forget();
    one.idle = fresh();
    one.bound_gone = one.had_bound = one.believes = false;
    if (promise_[one.process] == static_cast<int>(&one - runners_.data()))
      promise_[one.process] = nobody;
    ++wake_[one.process];
    one.at = Runner::At::begin;
    one.owned.clear();
    if (random_.one_in(2)) end(one);
  }
  void end_ghost() {
    for (Runner& one : runners_)
      if (one.ghost) end(one);
  }
  void end(Runner& one) {
    for (const std::size_t lane : one.ghost_lanes) owner_[lane] = nobody;
    if (one.ghost_xid != 0) end_xid(one.ghost_xid);
    one.ghost = false;
    one.ghost_lanes.clear();
    one.ghost_xid = 0;
  }

  [[nodiscard]] bool quiet() const {
    for (const Runner& one : runners_)
      if (one.ghost || one.at != Runner::At::wait || !one.asleep ||
          wake_[one.process] != one.signals)
        return false;
    return std::none_of(pending_.begin(), pending_.end(), [](bool pending) { return pending; });
  }

  static std::uint64_t seq_of(int row) { return static_cast<std::uint64_t>(row) + 1; }
  void set(int row, RowState state) { state_of_[static_cast<std::size_t>(row)] = state; }

  const std::size_t lanes_;
  Random random_;
  Mistake mistake_;
  std::uint64_t now_ = 0;
  unsigned actors_ = 0;
  unsigned current_ = 0;
  unsigned burst_ = 1;  // steps, about
  std::array<std::uint64_t, actors> frozen_until_{};
  std::uint64_t next_xid_ = 10;
  std::uint64_t newest_ended_ = 9;
  std::vector<std::uint64_t> running_;
  IdleProtocol::Options options_;
  std::uint64_t clock_ = 0;
  std::uint64_t until_ = 0;  // 0: disarmed
  unsigned to_insert_ = 0;
  int rows_ = 0;
  std::array<std::size_t, most_rows> lane_of_{};
  std::array<RowState, most_rows> state_of_{};
  std::array<int, most_lanes> owner_{};
  std::array<bool, processes> pending_{};
  std::array<std::uint64_t, processes> wake_{};
  std::array<int, processes> promise_{};  // the runner that will look again
  std::array<bool, processes> promised_once_{};
  std::array<std::unique_ptr<LaneMarks>, processes> marks_;
  std::array<Inserter, inserters> inserters_;
  std::vector<Runner> runners_;
  std::string trouble_;
  int armings_ = 0;
  int sleeps_ = 0;
  int done_ = 0;
  int lingered_ = 0;
  int relied_ = 0;
  int rested_ = 0;
};

}  // namespace

Interleaving interleave(std::uint64_t seed, Mistake mistake, std::size_t lanes) {
  Model model(seed, mistake, lanes);
  Interleaving result;
  result.trouble = model.run();
  result.events = model.events();
  result.armings = model.armings();
  result.sleeps = model.sleeps();
  result.lingered = model.lingered();
  result.relied = model.relied();
  result.rested = model.rested();
  return result;
}

}  // namespace spillway::test
