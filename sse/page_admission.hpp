// Whose turn it is to read a page of the database: how many pages a shard's streams may be reading,
// and how many bytes of them may be in memory, first come first served. So a storm of clients that
// resume costs a bounded amount of memory, however slowly they read.
//
// Belongs to the shard's thread. Pure bookkeeping over places that streams own; a place that is
// destroyed gives back what it had. Reads are counted until they are answered, whether or not
// somebody still wants the answer.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <utility>

namespace spillway::sse {

class PageAdmission {
 public:
  // Enough to keep the readers of the database busy.
  static constexpr std::size_t kReading = 8;

  class Place : public boost::intrusive::list_base_hook<
                    boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   public:
    explicit Place(PageAdmission& admission) : admission_(admission) {}
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() { leave(); }

    void leave() {
      unlink();
      if (std::exchange(waits_, false)) --admission_.waiting_count_;
      admission_.bytes_ -= std::exchange(bytes_, 0);
    }

   private:
    friend class PageAdmission;
    PageAdmission& admission_;
    std::size_t bytes_ = 0;  // that it holds
    bool waits_ = false;
  };

  void limit(std::size_t most_bytes) { most_bytes_ = most_bytes; }

  // At the end of the line.
  void wait(Place& place) {
    place.leave();
    waiting_.push_back(place);
    place.waits_ = true;
    ++waiting_count_;
  }

  // Whose turn it is, if it is anybody's; the read that begins counts until answered().
  [[nodiscard]] Place* next() {
    if (waiting_.empty() || reading_ >= kReading || bytes_ >= most_bytes_) return nullptr;
    Place& place = waiting_.front();
    place.leave();
    ++reading_;
    return &place;
  }
  void answered() { --reading_; }

  // The page is here and stays until place.leave().
  void hold(Place& place, std::size_t bytes) {
    place.leave();
    place.bytes_ = bytes;
    bytes_ += bytes;
    holding_.push_back(place);
  }

  // Somebody waits, and is not let in because of what others hold.
  [[nodiscard]] bool full() const { return !waiting_.empty() && bytes_ >= most_bytes_; }

  // Calls `visit` for each place that holds a page; it may leave.
  template <class Visit>
  void visit_holding(Visit visit) {
    for (auto next = holding_.begin(); next != holding_.end();) visit(*next++);
  }

  [[nodiscard]] std::size_t waiting() const { return waiting_count_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t reading() const { return reading_; }

 private:
  using List = boost::intrusive::list<Place, boost::intrusive::constant_time_size<false>>;

  std::size_t most_bytes_ = 0;
  std::size_t bytes_ = 0;
  std::size_t waiting_count_ = 0;
  std::size_t reading_ = 0;
  List waiting_;
  List holding_;
};

}  // namespace spillway::sse
