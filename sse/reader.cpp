#include "sse/reader.hpp"

#include <algorithm>

#include "sse/shard_log.hpp"

namespace spillway::sse {

void Outgoing::add(std::string_view text) {
  if (text.size() > kBytes - bytes_) {
    text = text.substr(0, kBytes - bytes_);
    cut_ = true;
  }
  if (text.empty()) return;
  bytes_ += text.size();
  if (count_ > 0) {
    iovec& last = pieces_[count_ - 1];
    if (static_cast<char*>(last.iov_base) + last.iov_len == text.data()) {
      last.iov_len += text.size();
      return;
    }
  }
  // iovec serves reading too, hence the missing const.
  pieces_[count_++] = iovec{const_cast<char*>(text.data()), text.size()};
}

bool Reader::lost() const {
  return std::any_of(cursors_.begin(), cursors_.end(), [](const Cursor& cursor) {
    return cursor.index < cursor.feed->places.begin_index();
  });
}

bool Reader::wanted(const FramePlace& place, const FrameRef& frame) const {
  // An ephemeral frame before `after_` would set the client's id back.
  if (frame.ephemeral) return frame.position >= after_ && place.segment >= live_from_;
  return frame.position > after_;
}

void Reader::load(std::vector<std::uint64_t>& indexes) const {
  indexes.resize(cursors_.size());
  for (std::size_t i = 0; i < cursors_.size(); ++i) indexes[i] = cursors_[i].index;
}

void Reader::store(const std::vector<std::uint64_t>& indexes) {
  for (std::size_t i = 0; i < cursors_.size(); ++i) cursors_[i].index = indexes[i];
}

// Takes the earliest place off the cursors; a channel that is read by name and by pattern gives its
// frame once.
const FramePlace* Reader::next(std::vector<std::uint64_t>& indexes) const {
  if (cursors_.size() == 1) {
    const PlaceList& places = cursors_.front().feed->places;
    return indexes.front() == places.end_index() ? nullptr : &places[indexes.front()++];
  }
  const FramePlace* first = nullptr;
  for (std::size_t i = 0; i < cursors_.size(); ++i) {
    const PlaceList& places = cursors_[i].feed->places;
    if (indexes[i] == places.end_index()) continue;
    const FramePlace& place = places[indexes[i]];
    if (first == nullptr || place < *first) first = &place;
  }
  if (first == nullptr) return nullptr;
  for (std::size_t i = 0; i < cursors_.size(); ++i) {
    const PlaceList& places = cursors_[i].feed->places;
    if (indexes[i] != places.end_index() && places[indexes[i]] == *first) ++indexes[i];
  }
  return first;
}

void Reader::fill(const ShardLog& log, Outgoing& out, std::vector<std::uint64_t>& scratch) const {
  load(scratch);
  out.add(rest_);
  while (!out.full() && !out.cut()) {
    const FramePlace* place = next(scratch);
    if (place == nullptr) return;
    const Segment& segment = *log.segment(*place);
    const FrameRef& frame = segment.frames[place->frame];
    if (!wanted(*place, frame)) continue;
    out.add(segment.text(frame));
    if (place->segment >= live_from_) {
      out.count_frame(segment.committed);
    } else {
      out.count_frame();  // it resumed here; nobody waited for it
    }
  }
}

std::size_t Reader::sent(const ShardLog& log, std::size_t bytes, bool all,
                         std::vector<std::uint64_t>& scratch) {
  std::size_t frames = 0;
  const std::size_t of_rest = std::min(bytes, rest_.size());
  rest_.remove_prefix(of_rest);
  bytes -= of_rest;
  if (!rest_.empty()) return 0;
  held_.reset();
  if (!all) {
    // The socket took a part: walk again and see where that part ends.
    load(scratch);
    while (bytes > 0) {
      const FramePlace* place = next(scratch);
      if (place == nullptr) break;
      const SegmentPtr& segment = log.segment(*place);
      const FrameRef& frame = segment->frames[place->frame];
      if (!wanted(*place, frame)) continue;
      const std::size_t taken = std::min(bytes, frame.length);
      bytes -= taken;
      ++frames;
      if (taken < frame.length) {
        held_ = segment;
        rest_ = segment->text(frame).substr(taken);
      }
    }
  }
  store(scratch);
  return frames;
}

}  // namespace spillway::sse
