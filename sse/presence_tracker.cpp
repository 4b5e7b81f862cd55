#include "sse/presence_tracker.hpp"

#include <algorithm>

#include "sse/frame.hpp"

namespace spillway::sse {
namespace {

// Every stream that comes gets a list for each of its channels, so it is bounded in bytes as well.
constexpr std::size_t kListBytes = 2048;

// A JSON list of the first names, and how many there are besides.
class Names {
 public:
  explicit Names(std::size_t most) : most_(most) {}

  void add(std::string_view name) {
    if (count_++ > shown_) return;  // full
    const std::string quoted = json_string(name);
    if (shown_ == most_ || text_.size() + quoted.size() >= kListBytes) return;
    if (shown_++ > 0) text_ += ',';
    text_ += quoted;
  }

  void append_to(std::string& out, std::string_view field) const {
    out.append(",\"").append(field).append("\":[").append(text_).append("]");
    if (count_ == shown_) return;
    out.append(",\"").append(field).append("_more\":").append(std::to_string(count_ - shown_));
  }

 private:
  const std::size_t most_;
  std::size_t count_ = 0;
  std::size_t shown_ = 0;
  std::string text_;
};

std::string opening_of(const std::string& channel, std::size_t subscribers) {
  return "{\"channel\":" + json_string(channel) + ",\"subscribers\":" + std::to_string(subscribers);
}

}  // namespace

void PresenceTracker::local(std::string_view name, std::string_view member, int change,
                            TimePoint now) {
  auto found = channels_.find(name);
  if (found == channels_.end()) {
    if (change <= 0) return;
    found = channels_.try_emplace(std::string(name)).first;
    found->second.followed_since = now;
    found->second.generation = ++generation_;
  }
  Channel& channel = found->second;
  const auto step = static_cast<std::uint32_t>(change);  // wraps around for one less
  channel.local_connections += step;
  if (channel.local_connections == 0) {
    // Nobody is left to be told; whoever comes is told the state.
    restless_.erase(found->first);
    given_up_.push_back(found->first);
    channels_.erase(found);
    ++generation_;
    return;
  }
  if (member.empty()) {
    channel.local_anonymous += step;
    review_anonymous(channel, now);
  } else {
    auto person = channel.people.find(member);
    if (person == channel.people.end())
      person = channel.people.try_emplace(std::string(member)).first;
    person->second.local += step;
    review(channel, person, now);
  }
  look_again(found->first, channel);
}

void PresenceTracker::remote(std::string_view name, const std::vector<Remote>& members,
                             TimePoint now) {
  const auto found = channels_.find(name);
  if (found == channels_.end()) return;
  Channel& channel = found->second;
  for (const Remote& one : members) {
    if (one.member.empty()) {
      channel.remote_anonymous = one.connections;
      review_anonymous(channel, now);
      continue;
    }
    auto person = channel.people.find(one.member);
    if (person == channel.people.end()) {
      if (one.connections == 0) continue;
      person = channel.people.try_emplace(one.member).first;
    }
    person->second.remote = one.connections;
    review(channel, person, now);
  }
  look_again(found->first, channel);
}

void PresenceTracker::remote_known(std::string_view name) {
  if (const auto found = channels_.find(name); found != channels_.end())
    found->second.remote_known = true;
}

// Puts somebody among those to be told of, or takes them out again: whoever is back before their
// leave was told never left, and whoever goes before their join was told never came.
void PresenceTracker::review(Channel& channel, People::iterator person, TimePoint now) {
  Person& p = person->second;
  const std::string_view name = person->first;
  const bool waits =
      channel.joins.contains({p.since, name}) || channel.leaves.contains({p.since, name});
  if (p.here() == p.announced) {
    channel.joins.erase({p.since, name});
    channel.leaves.erase({p.since, name});
    if (!p.here()) channel.people.erase(person);
  } else if (!waits) {
    p.since = now;
    (p.here() ? channel.joins : channel.leaves).emplace(now, name);
  }
}

void PresenceTracker::review_anonymous(Channel& channel, TimePoint now) {
  const std::uint32_t count = channel.anonymous();
  if (count == channel.announced_anonymous) {
    channel.anonymous_since.reset();
    return;
  }
  const bool rising = count > channel.announced_anonymous;
  if (!channel.anonymous_since || channel.rising != rising) {
    channel.anonymous_since = now;
    channel.rising = rising;
    channel.peak = count;
  }
  channel.peak = std::max(channel.peak, count);
}

void PresenceTracker::look_again(const std::string& name, const Channel& channel) {
  if (due_at(channel))
    restless_.insert(name);
  else
    restless_.erase(name);
}

std::optional<PresenceTracker::TimePoint> PresenceTracker::due_at(const Channel& channel) const {
  if (channel.fresh) {
    const bool waits = options_.others && !channel.remote_known;
    return channel.followed_since + (waits ? options_.patience : options_.gather);
  }
  std::optional<TimePoint> due;
  const auto earlier = [&due](TimePoint time) { due = due ? std::min(*due, time) : time; };
  if (!channel.joins.empty()) earlier(channel.joins.begin()->first + options_.gather);
  if (!channel.leaves.empty()) earlier(channel.leaves.begin()->first + options_.leave_delay);
  if (channel.anonymous_since)
    earlier(*channel.anonymous_since + (channel.rising ? options_.gather : options_.leave_delay));
  if (due && channel.last_frame) due = std::max(*due, *channel.last_frame + options_.gather);
  return due;
}

std::optional<PresenceTracker::TimePoint> PresenceTracker::next() const {
  std::optional<TimePoint> next;
  if (!given_up_.empty()) return TimePoint::min();
  for (const std::string_view name : restless_) {
    const auto due = due_at(channels_.find(name)->second);
    if (due && (!next || *due < *next)) next = due;
  }
  return next;
}

std::vector<PresenceNews> PresenceTracker::due(TimePoint now) {
  std::vector<PresenceNews> news;
  for (std::string& name : std::exchange(given_up_, {})) news.push_back({std::move(name), "", {}});
  for (auto next = restless_.begin(); next != restless_.end();) {
    const auto found = channels_.find(*next);
    ++next;  // telling may take it out
    const auto due = due_at(found->second);
    if (!due || *due > now) continue;
    news.push_back(tell(found->first, found->second, now));
    look_again(found->first, found->second);
  }
  return news;
}

PresenceNews PresenceTracker::tell(const std::string& name, Channel& channel, TimePoint now) const {
  Names joined(options_.names);
  Names left(options_.names);
  for (const auto& [since, member] : channel.joins) {
    channel.people.find(member)->second.announced = true;
    ++channel.announced;
    joined.add(member);
  }
  channel.joins.clear();
  while (!channel.leaves.empty() && channel.leaves.begin()->first + options_.leave_delay <= now) {
    const std::string_view member = channel.leaves.begin()->second;
    left.add(member);
    --channel.announced;
    channel.leaves.erase(channel.leaves.begin());
    channel.people.erase(channel.people.find(member));
  }
  settle_anonymous(channel, now);
  channel.last_frame = now;

  PresenceNews news{name, {}, std::make_shared<const std::string>(state_of(name, channel))};
  if (std::exchange(channel.fresh, false)) {
    news.frame = *news.state;
  } else {
    news.frame = opening_of(name, channel.announced + channel.announced_anonymous);
    joined.append_to(news.frame, "joined");
    left.append_to(news.frame, "left");
    news.frame += '}';
  }
  return news;
}

void PresenceTracker::settle_anonymous(Channel& channel, TimePoint now) const {
  if (!channel.anonymous_since) return;
  if (channel.rising || channel.fresh) {
    channel.announced_anonymous = channel.anonymous();
  } else if (*channel.anonymous_since + options_.leave_delay <= now) {
    channel.announced_anonymous = channel.peak;
  } else {
    return;
  }
  channel.anonymous_since.reset();
  review_anonymous(channel, now);
}

std::string PresenceTracker::state_of(const std::string& name, const Channel& channel) const {
  Names members(options_.names);
  for (const auto& [member, person] : channel.people)
    if (person.announced) members.add(member);
  std::string text = opening_of(name, channel.announced + channel.announced_anonymous);
  members.append_to(text, "members");
  return text += '}';
}

std::uint32_t PresenceTracker::local_count(std::string_view name, std::string_view member) const {
  const auto found = channels_.find(name);
  if (found == channels_.end()) return 0;
  if (member.empty()) return found->second.local_anonymous;
  const auto person = found->second.people.find(member);
  return person == found->second.people.end() ? 0 : person->second.local;
}

std::uint32_t PresenceTracker::remote_count(std::string_view name, std::string_view member) const {
  const auto found = channels_.find(name);
  if (found == channels_.end()) return 0;
  if (member.empty()) return found->second.remote_anonymous;
  const auto person = found->second.people.find(member);
  return person == found->second.people.end() ? 0 : person->second.remote;
}

std::vector<PresenceTracker::Followed> PresenceTracker::followed() const {
  std::vector<Followed> list;
  list.reserve(channels_.size());
  for (const auto& [name, channel] : channels_) list.push_back({name, channel.generation});
  return list;
}

}  // namespace spillway::sse
