// Who is on a channel, and what its subscribers are told of that: the decisions behind `event:
// presence`, without threads, sockets or a clock of its own. Not thread-safe.
//
// It follows the channels that have subscribers in this process. Somebody is there while any
// process has a connection of theirs. Joins are gathered for a moment and told together; somebody
// counts as gone only when they have not been there for `leave_delay`, so that a reconnect gives
// neither leave nor join. Anonymous connections only move the number, which falls with the same
// delay. For each subscriber what is told adds up: start from the state, add `joined`, take away
// `left`.
//
// Memory: the connections of this process, and what it is told of others' on the same channels.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace spillway::sse {

// What a shard has to know of one channel.
struct PresenceNews {
  std::string channel;
  std::string frame;                         // data for those who are here; empty: none
  std::shared_ptr<const std::string> state;  // data for whoever comes; null: not followed any more
};

class PresenceTracker {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;

  struct Options {
    Clock::duration leave_delay = std::chrono::seconds(5);
    // Between a join and its frame, and between two frames of a channel.
    Clock::duration gather = std::chrono::milliseconds(250);
    // How long a channel's first frame waits for what other processes have to say.
    Clock::duration patience = std::chrono::seconds(1);
    bool others = false;     // there are other processes
    std::size_t names = 50;  // in one list; the rest is a number
  };

  explicit PresenceTracker(Options options) : options_(options) {}

  // A connection of this process came (1) or went (-1). member: empty is anonymous.
  void local(std::string_view channel, std::string_view member, int change, TimePoint now);

  // How many connections other processes have, of one member or anonymous; replaces what was said
  // before. A channel that is not followed is passed over.
  struct Remote {
    std::string member;
    std::uint32_t connections = 0;
  };
  void remote(std::string_view channel, const std::vector<Remote>& members, TimePoint now);
  // remote() has said all there was to say of a channel that is new.
  void remote_known(std::string_view channel);

  // What is to be told now, and when there will be more (or never, as far as is known).
  [[nodiscard]] std::vector<PresenceNews> due(TimePoint now);
  [[nodiscard]] std::optional<TimePoint> next() const;

  // Connections of this process, and of others, as far as they were told.
  [[nodiscard]] std::uint32_t local_count(std::string_view channel, std::string_view member) const;
  [[nodiscard]] std::uint32_t remote_count(std::string_view channel, std::string_view member) const;
  template <class Visit>  // (channel, member, connections)
  void visit_local(Visit visit) const {
    for (const auto& [name, channel] : channels_) {
      if (channel.local_anonymous > 0) visit(name, std::string(), channel.local_anonymous);
      for (const auto& [member, person] : channel.people)
        if (person.local > 0) visit(name, member, person.local);
    }
  }

  // The channels that are followed. `since` is another one when a channel was given up in between.
  struct Followed {
    std::string channel;
    std::uint64_t since = 0;
  };
  [[nodiscard]] std::vector<Followed> followed() const;
  [[nodiscard]] std::uint64_t generation() const { return generation_; }  // changes with followed()

 private:
  struct Person {
    std::uint32_t local = 0;
    std::uint32_t remote = 0;
    bool announced = false;
    TimePoint since{};  // when it last came to differ from what was announced

    [[nodiscard]] bool here() const { return local + remote > 0; }
  };
  using People = std::map<std::string, Person, std::less<>>;
  using Waiting = std::set<std::pair<TimePoint, std::string_view>>;  // by when it began

  struct Channel {
    People people;  // who is here, or is announced
    Waiting joins;  // here and not announced
    Waiting leaves;
    std::size_t announced = 0;  // of people
    std::uint32_t local_connections = 0;
    std::uint32_t local_anonymous = 0;
    std::uint32_t remote_anonymous = 0;
    std::uint32_t announced_anonymous = 0;
    std::optional<TimePoint> anonymous_since;  // when their number came to differ
    bool rising = false;
    std::uint32_t peak = 0;  // while it is lower: the most there were since then
    bool fresh = true;       // nothing has been told yet
    bool remote_known = false;
    TimePoint followed_since{};
    std::uint64_t generation = 0;
    std::optional<TimePoint> last_frame;

    [[nodiscard]] std::uint32_t anonymous() const { return local_anonymous + remote_anonymous; }
  };
  using Channels = std::map<std::string, Channel, std::less<>>;

  static void review(Channel& channel, People::iterator person, TimePoint now);
  static void review_anonymous(Channel& channel, TimePoint now);
  [[nodiscard]] std::optional<TimePoint> due_at(const Channel& channel) const;
  PresenceNews tell(const std::string& name, Channel& channel, TimePoint now) const;
  void settle_anonymous(Channel& channel, TimePoint now) const;
  [[nodiscard]] std::string state_of(const std::string& name, const Channel& channel) const;
  void look_again(const std::string& name, const Channel& channel);

  const Options options_;
  Channels channels_;
  std::set<std::string_view> restless_;  // have something to tell, now or later
  std::vector<std::string> given_up_;    // since due() was last called
  std::uint64_t generation_ = 0;
};

}  // namespace spillway::sse
