#include "processor/presence_mirror.hpp"

namespace spillway {

std::vector<std::string> PresenceMirror::follow(
    const std::vector<sse::PresenceTracker::Followed>& channels) {
  std::map<std::string, std::uint64_t> since;
  for (const auto& followed : channels) since.emplace(followed.channel, followed.since);
  const auto the_same = [](const auto& map, const auto& entry) {
    const auto found = map.find(entry.first);
    return found != map.end() && found->second == entry.second;
  };
  std::vector<std::string> fresh;
  for (const auto& entry : since)
    if (!the_same(since_, entry)) fresh.push_back(entry.first);
  for (auto& [worker, rows] : rows_)
    size_ -= std::erase_if(rows, [&](const auto& row) {
      const auto before = since_.find(row.first.first);
      return before == since_.end() || !the_same(since, *before);
    });
  std::erase_if(changed_, [&](const Key& key) { return !since.contains(key.first); });
  since_ = std::move(since);
  return fresh;
}

std::vector<std::string> PresenceMirror::channels() const {
  std::vector<std::string> names;
  names.reserve(since_.size());
  for (const auto& [name, since] : since_) names.push_back(name);
  return names;
}

void PresenceMirror::set(std::int64_t worker, const std::string& channel, const std::string& member,
                         std::uint32_t connections) {
  if (!since_.contains(channel)) return;
  Rows& rows = rows_[worker];
  const Key key{channel, member};
  const auto found = rows.find(key);
  if (found == rows.end()) {
    if (connections == 0 || size_ == most_) return;
    rows.emplace(key, connections);
    ++size_;
  } else if (connections == 0) {
    rows.erase(found);
    --size_;
  } else if (found->second == connections) {
    return;
  } else {
    found->second = connections;
  }
  changed_.insert(key);
}

void PresenceMirror::forget(std::int64_t worker) {
  const auto found = rows_.find(worker);
  if (found == rows_.end()) return;
  for (const auto& [key, connections] : found->second) changed_.insert(key);
  size_ -= found->second.size();
  rows_.erase(found);
}

std::vector<std::int64_t> PresenceMirror::workers() const {
  std::vector<std::int64_t> ids;
  for (const auto& [worker, rows] : rows_) ids.push_back(worker);
  return ids;
}

std::vector<sse::PresenceRow> PresenceMirror::take_changed() {
  std::vector<sse::PresenceRow> changed;
  changed.reserve(changed_.size());
  for (const Key& key : changed_) {
    std::uint32_t connections = 0;
    for (const auto& [worker, rows] : rows_)
      if (const auto found = rows.find(key); found != rows.end()) connections += found->second;
    changed.push_back({key.first, key.second, connections});
  }
  changed_.clear();
  return changed;
}

}  // namespace spillway
