#include "sse/subscribers.hpp"

#include <algorithm>

#include "sse/presence.hpp"

namespace spillway::sse {

std::variant<Subscribers::Places, Subscribers::Full> Subscribers::join(
    const std::vector<std::string>& channels, std::string_view member) {
  Places places;
  places.registry_ = this;
  places.entries_.reserve(channels.size());
  for (const std::string& channel : channels) {
    Entry* entry = enter(channel);
    if (entry == nullptr) return Full{channel};  // and those that were taken go back
    places.entries_.push_back(entry);
  }
  if (presence_ != nullptr) {
    const std::string_view name = is_member_name(member) ? member : std::string_view{};
    for (const std::string& channel : channels) {
      if (!presence_->announces(channel)) continue;
      if (!places.announced_as_) places.announced_as_ = std::make_unique<const std::string>(name);
      presence_->came(channel, name);
    }
  }
  tell();
  return places;
}

Subscribers::Entry* Subscribers::enter(std::string_view channel) {
  Bucket& bucket = bucket_of(channel);
  const std::lock_guard lock(bucket.mutex);
  auto found = bucket.entries.find(channel);
  if (found == bucket.entries.end()) found = bucket.entries.try_emplace(std::string(channel)).first;
  if (most_ != 0 && found->second.subscribers >= most_) return nullptr;
  ++found->second.subscribers;
  note(bucket, *found);
  return &*found;
}

void Subscribers::leave(Entry& entry) {
  Bucket& bucket = bucket_of(entry.first);
  const std::lock_guard lock(bucket.mutex);
  --entry.second.subscribers;
  note(bucket, entry);
}

void Subscribers::note(Bucket& bucket, Entry& entry) {
  if (entry.second.changed) return;
  if (bucket.changed.size() == kMostChanges) {
    for (Entry* old : bucket.changed) {
      old->second.changed = false;
      if (old->second.subscribers == 0 && old != &entry) bucket.entries.erase(old->first);
    }
    bucket.changed.clear();
    bucket.dropped = true;
  }
  entry.second.changed = true;
  bucket.changed.push_back(&entry);
}

void Subscribers::tell() {
  if (on_change_ && !told_.exchange(true)) on_change_();
}

std::size_t Subscribers::count(std::string_view channel) const {
  const Bucket& bucket = bucket_of(channel);
  const std::lock_guard lock(bucket.mutex);
  const auto found = bucket.entries.find(channel);
  return found == bucket.entries.end() ? 0 : found->second.subscribers;
}

std::vector<Subscribers::Count> Subscribers::counts(std::string_view prefix) const {
  std::vector<Count> counts;
  for (const Bucket& bucket : buckets_) {
    const std::lock_guard lock(bucket.mutex);
    for (const auto& [channel, state] : bucket.entries)
      if (state.subscribers > 0 && channel.starts_with(prefix))
        counts.push_back({channel, state.subscribers});
  }
  return counts;
}

Subscribers::Changes Subscribers::take_changes() {
  told_ = false;
  Changes changes;
  for (const Bucket& bucket : buckets_) {
    const std::lock_guard lock(bucket.mutex);
    changes.all = changes.all || bucket.dropped;
  }
  for (Bucket& bucket : buckets_) {
    const std::lock_guard lock(bucket.mutex);
    if (changes.all)
      for (const auto& [channel, state] : bucket.entries)
        if (state.subscribers > 0) changes.counts.push_back({channel, state.subscribers});
    for (Entry* entry : bucket.changed) {
      entry->second.changed = false;
      if (!changes.all) changes.counts.push_back({entry->first, entry->second.subscribers});
      if (entry->second.subscribers == 0) bucket.entries.erase(entry->first);
    }
    bucket.changed.clear();
    // One that began to drop after the look above keeps that for the next time.
    if (changes.all) bucket.dropped = false;
  }
  return changes;
}

void Subscribers::count_all_as_changed() {
  const std::lock_guard lock(buckets_.front().mutex);
  buckets_.front().dropped = true;
}

Subscribers::Places::~Places() {
  if (announced_as_)
    for (const Entry* entry : entries_)
      if (registry_->presence_->announces(entry->first))
        registry_->presence_->went(entry->first, *announced_as_);
  for (Entry* entry : entries_) registry_->leave(*entry);
  if (!entries_.empty()) registry_->tell();
}

}  // namespace spillway::sse
