#include "sse/presence.hpp"

#include <algorithm>

#include "sse/channel_name.hpp"

namespace spillway::sse {
namespace {

using std::chrono::milliseconds;

// A storm of connections is looked at this often, not once for each.
constexpr milliseconds kPause{25};
constexpr std::size_t kMostChanges = 10'000;

}  // namespace

bool is_member_name(std::string_view name) {
  return !name.empty() && problem_of_text(name).empty();
}

Presence::Presence(PresenceOptions options, Tell tell)
    : options_(std::move(options)), tell_(std::move(tell)), tracker_([this] {
        PresenceTracker::Options tracker;
        tracker.leave_delay = options_.leave_delay;
        tracker.others = options_.others;
        return tracker;
      }()) {}

Presence::~Presence() {
  stop();
}

void Presence::start() {
  const std::lock_guard lock(noted_mutex_);
  stopping_ = false;
  thread_ = std::jthread([this] { run(); });
}

void Presence::stop() {
  {
    const std::lock_guard lock(noted_mutex_);
    stopping_ = true;
  }
  noted_something_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Presence::announces(std::string_view channel) const {
  return !pattern_prefix(channel) &&
         std::any_of(options_.channels.begin(), options_.channels.end(),
                     [&](const std::string& wanted) { return listens_to(wanted, channel); });
}

void Presence::note(const std::string& channel, std::string_view member, int change) {
  bool first = false;
  {
    const std::lock_guard lock(noted_mutex_);
    auto& members = noted_[channel];
    const auto found = members.try_emplace(std::string(member), 0).first;
    found->second += change;
    first = !std::exchange(look_, true);
  }
  if (first) noted_something_.notify_one();
}

void Presence::run() {
  auto next = Clock::now();
  std::unique_lock lock(noted_mutex_);
  while (!stopping_) {
    noted_something_.wait_until(lock, next, [this] { return stopping_ || look_; });
    if (stopping_) return;
    look_ = false;
    lock.unlock();
    std::vector<PresenceNews> news;
    bool changed = false;
    {
      const std::lock_guard tracker_lock(tracker_mutex_);
      const bool had_changes = all_changed_ || !changed_.empty();
      take_in();
      changed = !had_changes && !changed_.empty();
      const auto now = Clock::now();
      news = tracker_.due(now);
      next = tracker_.next().value_or(now + std::chrono::hours(1));
    }
    if (!news.empty()) tell_(std::make_shared<const std::vector<PresenceNews>>(std::move(news)));
    if (changed && on_change_) on_change_();
    lock.lock();
    noted_something_.wait_for(lock, kPause, [this] { return stopping_; });
  }
}

void Presence::take_in() {
  std::unordered_map<std::string, std::map<std::string, int>> noted;
  {
    const std::lock_guard lock(noted_mutex_);
    noted.swap(noted_);
  }
  const auto now = Clock::now();
  for (const auto& [channel, members] : noted) {
    // Those who come first: a channel that somebody is on all the time is not given up in between.
    for (const bool coming : {true, false})
      for (const auto& [member, change] : members)
        if (change != 0 && (change > 0) == coming) {
          tracker_.local(channel, member, change, now);
          mark_changed(channel, member);
        }
  }
}

void Presence::mark_changed(const std::string& channel, const std::string& member) {
  if (all_changed_) return;
  changed_.emplace(channel, member);
  if (changed_.size() <= kMostChanges) return;
  changed_.clear();
  all_changed_ = true;
}

Presence::Changes Presence::take_changes() {
  const std::lock_guard lock(tracker_mutex_);
  take_in();
  Changes changes;
  changes.all = std::exchange(all_changed_, false);
  if (changes.all)
    tracker_.visit_local(
        [&](const std::string& channel, const std::string& member, std::uint32_t connections) {
          changes.rows.push_back({channel, member, connections});
        });
  else
    for (const auto& [channel, member] : changed_)
      changes.rows.push_back({channel, member, tracker_.local_count(channel, member)});
  changed_.clear();
  return changes;
}

void Presence::count_all_as_changed() {
  const std::lock_guard lock(tracker_mutex_);
  changed_.clear();
  all_changed_ = true;
}

std::vector<PresenceTracker::Followed> Presence::followed() const {
  const std::lock_guard lock(tracker_mutex_);
  return tracker_.followed();
}

std::uint64_t Presence::generation() const {
  const std::lock_guard lock(tracker_mutex_);
  return tracker_.generation();
}

void Presence::remote(const std::vector<PresenceRow>& rows) {
  if (rows.empty()) return;
  {
    const std::lock_guard lock(tracker_mutex_);
    const auto now = Clock::now();
    for (std::size_t begin = 0; begin < rows.size();) {
      std::vector<PresenceTracker::Remote> members;
      std::size_t end = begin;
      for (; end < rows.size() && rows[end].channel == rows[begin].channel; ++end)
        members.push_back({rows[end].member, rows[end].connections});
      tracker_.remote(rows[begin].channel, members, now);
      begin = end;
    }
  }
  wake();
}

void Presence::remote_known(const std::vector<std::string>& channels) {
  if (channels.empty()) return;
  {
    const std::lock_guard lock(tracker_mutex_);
    for (const std::string& channel : channels) tracker_.remote_known(channel);
  }
  wake();
}

std::uint32_t Presence::remote_count(std::string_view channel, std::string_view member) const {
  const std::lock_guard lock(tracker_mutex_);
  return tracker_.remote_count(channel, member);
}

void Presence::wake() {
  {
    const std::lock_guard lock(noted_mutex_);
    look_ = true;
  }
  noted_something_.notify_one();
}

}  // namespace spillway::sse
