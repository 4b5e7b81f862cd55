// One open stream: a reader of the shard's log with a connection. `initial → catching up → live`;
// what to do is decided in resume.hpp, carried out here.
//
// Belongs to the shard's thread and is owned by the shard; asynchronous waits keep it alive until
// they have come back. Holds no queue: at most the opening bytes or one page of the database, and
// one half-sent frame.
#pragma once

#include <boost/intrusive/list_hook.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sse/access_record.hpp"
#include "sse/connection.hpp"
#include "sse/connection_slot.hpp"
#include "sse/counters.hpp"
#include "sse/event_id.hpp"
#include "sse/latest.hpp"
#include "sse/page_admission.hpp"
#include "sse/reader.hpp"
#include "sse/replay_source.hpp"
#include "sse/resume.hpp"
#include "sse/subscribers.hpp"

namespace spillway::sse {

class Shard;
class Stream;

// When what was granted ends, by the clock on the wall.
using Expiry = std::chrono::sys_seconds;
inline constexpr Expiry kNever = Expiry::max();

struct StreamRequest {
  std::vector<std::string> channels;
  ResumePoint from;
  std::string subject;       // who it is, by the token's `sub`; empty: not known
  std::string more_headers;  // lines of the response's head, each with its end
  Expiry expires = kNever;   // from then on nothing more is sent
  Subscribers::Places places{};
  std::unique_ptr<AccessRecord> record{};  // what is known of it so far; null: no access log
};

struct StreamOptions {
  std::chrono::milliseconds retry{2000};
  std::chrono::milliseconds heartbeat{15000};
  std::chrono::milliseconds blocked_timeout{30000};
  std::size_t page_bytes = 256u << 10;  // of the database, for a stream that resumes
  std::chrono::milliseconds coalesce{0};
};

using AutoUnlink = boost::intrusive::link_mode<boost::intrusive::auto_unlink>;
using DirtyHook =
    boost::intrusive::list_base_hook<boost::intrusive::tag<struct DirtyTag>, AutoUnlink>;
using WheelHook =
    boost::intrusive::list_base_hook<boost::intrusive::tag<struct WheelTag>, AutoUnlink>;

// A stream's place among those that want a page, or hold one.
struct PageTurn : PageAdmission::Place {
  PageTurn(PageAdmission& admission, Stream& s) : Place(admission), stream(s) {}
  Stream& stream;
};

class Stream : public WheelHook,
               public std::enable_shared_from_this<Stream>,
               public Reader,
               public DirtyHook {
 public:
  using Clock = std::chrono::steady_clock;

  Stream(Shard& shard, Connection connection, ConnectionSlot slot, StreamRequest request);

  void open();

  // Writes what is pending, within a share of the turn. `more`: it wants another go.
  enum class Result { idle, more, blocked, over };
  [[nodiscard]] Result serve();

  // Soon serve() is called: begins to load what it touches.
  void fetch() const {
    const auto* line = reinterpret_cast<const char*>(static_cast<const Reader*>(this));
    const auto* end = reinterpret_cast<const char*>(&connection_ + 1);
    for (; line < end; line += kCacheLine) __builtin_prefetch(line, 1);
  }

  // Ends once what is pending is written, with a `retry:` as the last word.
  void finish(StreamEnd why) {
    if (!finishing_) why_ = why;
    finishing_ = true;
  }
  void close();
  void report(const AccessLog& log, StreamEnd why) noexcept;

  // Why serve() or on_timer() found that it is over.
  [[nodiscard]] StreamEnd why() const { return why_; }

  // `due`, or the time when the token expires, if that is earlier.
  [[nodiscard]] Clock::time_point not_after_expiry(Clock::time_point due,
                                                   Clock::time_point now) const;

  // Its turn has come to read the page that it asked for.
  void read_page();
  // Somebody waits for room for a page: one that takes nothing gives its own back, and reads the
  // rest of it again when it does.
  void spare_page(Clock::time_point now);

  // The timer came around: nothing if it is over, or when it wants to be looked at again.
  [[nodiscard]] std::optional<Clock::time_point> on_timer(Clock::time_point now);

  [[nodiscard]] bool blocked() const { return blocked_; }

  std::size_t number = 0;  // its place among the shard's streams; the shard's business

 private:
  static constexpr std::ptrdiff_t kCacheLine = 64;

  struct Latest {  // of latest channels: what is shown, and from where on they are listened to
    ChannelSplit channels;
    std::optional<LatestPoint> point;    // as of when; nothing: it is not known yet
    std::vector<LatestFramePtr> frames;  // not shown yet
    LatestPoint asked;                   // while the database is asked …
    LatestTable::Known known;            // … what memory knew of it
    bool learn = false;                  // the answer is as new as memory was
    bool asking = false;                 // its turn to read is for this
    std::optional<std::uint64_t> then;   // it goes live there once all is known and shown
    std::size_t own_end = 0;             // where own_ has what is shown, up to here
  };
  struct CatchUp {  // gone once the stream is live
    CatchUp(PageAdmission& admission, Stream& stream) : turn(admission, stream) {}

    PageTurn turn;
    std::vector<std::string> channels;
    ResumePoint from;
    std::string more_headers;
    bool opened = false;                      // the response has begun
    bool reading = false;                     // a page is on its way, or will be
    bool spared = false;                      // the page was cut short, at `upto`
    std::optional<std::uint64_t> read_after;  // of the page that is wanted …
    std::size_t read_limit = 0;               // … and how many broadcasts
    std::uint64_t after = 0;                  // where the page being sent began …
    std::uint64_t upto = 0;                   // … and where it ends
    std::unique_ptr<Latest> latest;           // when it has such channels
  };

  void carry_out(const GoLive& live);
  void carry_out(const ReadPage& read);
  void carry_out(const Reset& reset);
  void carry_out(const ComeBack&);
  void send_page(const SendPage& send, const ReplayPage& page);
  void on_page(std::optional<ReplayPage> page);
  template <class Page>
  [[nodiscard]] std::function<void(std::optional<Page>)> answer_to(
      void (Stream::*act)(std::optional<Page>));
  void start();
  [[nodiscard]] bool take_state(std::uint64_t after);
  void read_state();
  void on_state(std::optional<LatestPage> page);
  void show_state(std::uint64_t position, std::size_t most_bytes);
  void go_live_at(std::uint64_t after);
  void begin_response(std::uint64_t position);
  void page_sent();
  [[nodiscard]] Result wrote_all();
  [[nodiscard]] Result over(StreamEnd why);
  void began(ResumeSource source);
  void dismiss();

  [[nodiscard]] bool expired() const;
  [[nodiscard]] std::optional<Clock::time_point> look_after(Clock::time_point now);

  void wait_readable();
  void on_readable();
  void wait_writable();
  void on_input_closed();
  [[nodiscard]] std::size_t consume(std::size_t bytes, bool all);

  struct Reported {
    AccessRecord record;
    Clock::time_point opened;
  };

  // What each delivery touches stands together, behind the hook and the cursor: in the memory of
  // thousands of streams, every line of the cache that is not needed is time.
  bool live_ = false;     // subscribed to the log
  bool blocked_ = false;  // waiting for the socket to take more
  bool finishing_ = false;
  bool dismissed_ = false;  // told when to come back
  bool heartbeat_due_ = false;
  bool behind_ = false;  // the last system call left something: what comes is late by its client
  bool closed_ = false;
  StreamEnd why_ = StreamEnd::error;
  Shard& shard_;
  const Expiry expires_;
  std::unique_ptr<Reported> reported_;  // only with an access log
  std::unique_ptr<CatchUp> catch_up_;
  std::string own_;  // bytes of this stream alone, sent before frames of the log
  std::size_t own_sent_ = 0;
  Clock::time_point last_write_;       // when the socket last took something
  Clock::time_point stalled_since_{};  // since when it has taken nothing; zero: it does take
  Connection connection_;

  // The rest waits for its beginning and its end.
  ConnectionSlot slot_;
  Subscribers::Places places_;
};

}  // namespace spillway::sse
