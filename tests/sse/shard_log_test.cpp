// The shard's log and its readers, without sockets or threads.
#include "sse/shard_log.hpp"

#include <gtest/gtest.h>

#include <random>

#include "sse/reader.hpp"
#include "sse/segment.hpp"
#include "sse/timer_wheel.hpp"

namespace spillway::sse {
namespace {

class LogTest : public testing::Test {
 protected:
  explicit LogTest(std::size_t cap = 1u << 20) : log_(cap) { log_.restart({"e", 0, 0}); }

  void append(const std::vector<std::pair<std::string, std::string>>& frames,
              bool ephemeral = false) {
    BroadcastBatch batch{log_.end(), 0, {}};
    for (const auto& [channel, data] : frames)
      batch.broadcasts.push_back({0, channel, "", data, ephemeral});
    for (SegmentPtr& segment : encode_segments("e", batch)) log_.append(std::move(segment));
  }

  // What the reader would send next, taken in bites of at most `bite` bytes.
  std::string take(Reader& reader, std::size_t bite = 1u << 30) {
    std::string out;
    for (;;) {
      Outgoing next;
      reader.fill(log_, next, scratch_);
      const std::size_t bytes = std::min(bite, next.bytes());
      std::size_t left = bytes;
      for (std::size_t i = 0; i < next.count() && left > 0; ++i) {
        const iovec& piece = next.pieces()[i];
        const std::size_t n = std::min(left, piece.iov_len);
        out.append(static_cast<const char*>(piece.iov_base), n);
        left -= n;
      }
      reader.sent(log_, bytes, bytes == next.bytes() && !next.cut(), scratch_);
      if (next.bytes() == 0) return out;
    }
  }

  static std::string datas(const std::string& frames) {
    std::string out;
    for (std::size_t at = frames.find("data: "); at != std::string::npos;
         at = frames.find("data: ", at + 1))
      out += frames.substr(at + 6, frames.find('\n', at) - at - 6);
    return out;
  }

  ShardLog log_;
  std::vector<std::uint64_t> scratch_;
};

TEST_F(LogTest, AReaderGetsItsChannelsMergedInOrder) {
  Reader reader;
  log_.subscribe(reader, {"b", "a"}, 0);
  append({{"a", "1"}, {"b", "2"}, {"c", "3"}});
  append({{"b", "4"}, {"a", "5"}});
  EXPECT_EQ(datas(take(reader)), "1245");
  append({{"c", "6"}});
  EXPECT_EQ(take(reader), "");
  log_.unsubscribe(reader);
}

TEST_F(LogTest, ByteByByteIsTheSameAsAtOnce) {
  append({{"a", "1"}, {"b", "22"}, {"a", "333"}});
  append({{"b", "4444"}, {"c", "x"}, {"a", "5"}});
  std::string whole;
  for (const std::size_t bite : {1u << 30, 1u, 2u, 3u, 7u, 11u}) {
    Reader reader;
    log_.subscribe(reader, {"a", "b"}, 0);
    const std::string got = take(reader, bite);
    if (whole.empty()) whole = got;
    EXPECT_EQ(got, whole) << bite;
    log_.unsubscribe(reader);
  }
  EXPECT_EQ(datas(whole),
            "122333"
            "44445");
}

TEST_F(LogTest, ASubscriptionBeginsAfterItsPosition) {
  append({{"a", "1"}, {"a", "2"}, {"a", "3"}});
  for (std::uint64_t after = 0; after <= 3; ++after) {
    Reader reader;
    log_.subscribe(reader, {"a"}, after);
    EXPECT_EQ(datas(take(reader)), std::string("123").substr(after));
    log_.unsubscribe(reader);
  }
}

TEST_F(LogTest, APatternSeesFramesFromBeforeItWasFirstRead) {
  append({{"A:1", "1"}, {"B:1", "x"}, {"A:2", "2"}});
  Reader live;
  log_.subscribe(live, {"A:*"}, 3);
  append({{"A:3", "3"}});
  Reader resumed;
  log_.subscribe(resumed, {"A:*"}, 1);
  append({{"A:1", "4"}});
  EXPECT_EQ(datas(take(live)), "34");
  EXPECT_EQ(datas(take(resumed)), "234");
  log_.unsubscribe(live);
  log_.unsubscribe(resumed);
  EXPECT_EQ(log_.patterns(), 0u);
}

TEST_F(LogTest, EphemeralFramesAreForThoseWhoWereThere) {
  Reader live;
  log_.subscribe(live, {"a"}, 0);
  append({{"a", "1"}});
  append({{"a", "now"}}, true);
  Reader resumed;
  log_.subscribe(resumed, {"a"}, 0);
  Reader ahead;  // its id is of another process that is further on
  log_.subscribe(ahead, {"a"}, 2);
  append({{"a", "then"}}, true);
  append({{"a", "2"}, {"a", "3"}});
  append({{"a", "!"}}, true);
  EXPECT_EQ(datas(take(live)), "1nowthen23!");
  EXPECT_EQ(datas(take(resumed)), "1then23!");
  EXPECT_EQ(datas(take(ahead)), "3!");
  for (Reader* reader : {&live, &resumed, &ahead}) log_.unsubscribe(*reader);
}

TEST_F(LogTest, TouchedReadersAreVisitedOnceForEachOfTheirFeeds) {
  Reader one, two;
  log_.subscribe(one, {"a"}, 0);
  log_.subscribe(two, {"b"}, 0);
  append({{"a", "1"}, {"a", "2"}});
  append({{"a", "3"}, {"c", "4"}});
  std::vector<Reader*> visited;
  log_.visit_touched([&](Reader& reader) { visited.push_back(&reader); });
  EXPECT_EQ(visited, std::vector<Reader*>{&one});
  log_.visit_touched([&](Reader&) { FAIL(); });
  append({{"b", "5"}});
  log_.unsubscribe(two);  // touched, but gone
  log_.visit_touched([&](Reader&) { FAIL(); });
  log_.unsubscribe(one);
}

class SmallLogTest : public LogTest {
 protected:
  SmallLogTest() : LogTest(2000) {}
};

TEST_F(SmallLogTest, KeepsToItsCapAndForgetsDeadChannels) {
  for (int i = 0; i < 500; ++i) append({{"channel:" + std::to_string(i), "some data"}});
  EXPECT_LE(log_.bytes(), 2000u);
  EXPECT_LT(log_.channels(), 20u);
  EXPECT_EQ(log_.end(), 500u);
  EXPECT_GT(log_.base(), 480u);
}

TEST_F(SmallLogTest, AReaderWhoseNextFrameWasLetGoIsLost) {
  Reader slow, quick, elsewhere;
  log_.subscribe(slow, {"a"}, 0);
  log_.subscribe(quick, {"a"}, 0);
  log_.subscribe(elsewhere, {"b"}, 0);
  append({{"a", "1"}, {"a", "2"}});
  EXPECT_EQ(datas(take(quick)), "12");
  for (int i = 0; i < 50; ++i) append({{"c", std::string(100, 'x')}});
  EXPECT_TRUE(slow.lost());
  EXPECT_FALSE(quick.lost());
  EXPECT_FALSE(elsewhere.lost());
  append({{"a", "3"}, {"b", "4"}});
  EXPECT_EQ(datas(take(quick)), "3");
  EXPECT_EQ(datas(take(elsewhere)), "4");
  for (Reader* reader : {&slow, &quick, &elsewhere}) log_.unsubscribe(*reader);
}

TEST_F(SmallLogTest, AHalfSentFrameOutlivesItsSegment) {
  Reader reader;
  log_.subscribe(reader, {"a"}, 0);
  append({{"a", "half sent"}});
  Outgoing out;
  reader.fill(log_, out, scratch_);
  reader.sent(log_, 5, false, scratch_);
  EXPECT_TRUE(reader.mid_frame());
  for (int i = 0; i < 50; ++i) append({{"c", std::string(100, 'x')}});
  EXPECT_FALSE(reader.lost());
  EXPECT_EQ(take(reader), " half sent\nid: e-1\n\n");
  log_.unsubscribe(reader);
}

TEST_F(SmallLogTest, PatternsAreEvictedWithTheirFrames) {
  Reader all;
  log_.subscribe(all, {"c:*"}, 0);
  std::string got;
  for (int i = 0; i < 300; ++i) {
    append({{"c:" + std::to_string(i % 40), std::string(1, static_cast<char>('a' + i % 26))}});
    got += datas(take(all));
  }
  EXPECT_EQ(got.size(), 300u);
  Reader resumed;
  log_.subscribe(resumed, {"c:*"}, log_.base());
  EXPECT_EQ(datas(take(resumed)).size(), log_.end() - log_.base());
  log_.unsubscribe(all);
  log_.unsubscribe(resumed);
}

TEST(Log, RandomSubscriptionsAgreeWithAPlainModel) {
  const std::vector<std::string> names = {"A:1", "A:2", "A:b:1", "A:b:2", "B:1", "*:x"};
  const std::vector<std::string> wishes = {"A:1", "A:2", "A:b:1", "B:1", "A:*", "A:b:*", "B:*"};
  struct Modelled {
    Reader reader;
    std::vector<std::string> channels;
    std::string expected;
    std::string got;
  };
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    ShardLog log(3000);
    log.restart({"e", 0, 0});
    std::vector<std::pair<std::string, std::string>> history;  // channel and encoded frame
    std::vector<std::unique_ptr<Modelled>> readers;
    std::vector<std::uint64_t> scratch;
    const auto wants = [](const Modelled& modelled, const std::string& channel) {
      for (const std::string& wish : modelled.channels) {
        if (wish == channel) return true;
        if (wish.ends_with(":*") && channel.starts_with(wish.substr(0, wish.size() - 1)))
          return true;
      }
      return false;
    };
    for (int step = 0; step < 600; ++step) {
      switch (random() % 6) {
        case 0: {
          auto modelled = std::make_unique<Modelled>();
          for (const std::string& wish : wishes)
            if (random() % 3 == 0) modelled->channels.push_back(wish);
          const std::uint64_t after = log.base() + random() % (log.end() - log.base() + 1);
          for (std::size_t i = after; i < history.size(); ++i)
            if (wants(*modelled, history[i].first)) modelled->expected += history[i].second;
          log.subscribe(modelled->reader, modelled->channels, after);
          readers.push_back(std::move(modelled));
          break;
        }
        case 1:
          if (!readers.empty()) {
            const std::size_t i = random() % readers.size();
            log.unsubscribe(readers[i]->reader);
            readers.erase(readers.begin() + static_cast<std::ptrdiff_t>(i));
          }
          break;
        case 2:
        case 3: {
          BroadcastBatch batch{log.end(), 0, {}};
          for (std::size_t n = 1 + random() % 5; n > 0; --n)
            batch.broadcasts.push_back(
                {0, names[random() % names.size()], "", std::string(random() % 30, 'd'), false});
          for (SegmentPtr& segment : encode_segments("e", batch, 200)) {
            for (const FrameRef& frame : segment->frames) {
              history.emplace_back(segment->channels[frame.channel], segment->text(frame));
              for (auto& modelled : readers)
                if (wants(*modelled, history.back().first))
                  modelled->expected += history.back().second;
            }
            log.append(std::move(segment));
          }
          break;
        }
        default:
          for (std::size_t i = 0; i < readers.size(); ++i) {
            Modelled& modelled = *readers[i];
            if (modelled.reader.lost()) continue;
            Outgoing out;
            modelled.reader.fill(log, out, scratch);
            const std::size_t bytes = out.bytes() == 0 ? 0 : random() % (out.bytes() + 1);
            std::size_t left = bytes;
            for (std::size_t k = 0; k < out.count() && left > 0; ++k) {
              const std::size_t n = std::min(left, out.pieces()[k].iov_len);
              modelled.got.append(static_cast<const char*>(out.pieces()[k].iov_base), n);
              left -= n;
            }
            modelled.reader.sent(log, bytes, bytes == out.bytes() && !out.cut(), scratch);
            ASSERT_TRUE(modelled.expected.starts_with(modelled.got)) << "seed " << seed;
            if (bytes == out.bytes() && !out.full()) {
              ASSERT_EQ(modelled.got, modelled.expected) << "seed " << seed;
            }
          }
      }
    }
    for (auto& modelled : readers) log.unsubscribe(modelled->reader);
    ASSERT_EQ(log.patterns(), 0u);
  }
}

TEST(Segment, EncodesABatchOnceWithPositionsFromItsBase) {
  const auto segments = encode_segments(
      "e", {7, 3, {{0, "a", "t", "x", false}, {0, "b", "", "y", true}, {0, "a", "", "z", false}}});
  ASSERT_EQ(segments.size(), 1u);
  const Segment& segment = *segments.front();
  EXPECT_EQ(segment.bytes,
            "event: t\ndata: x\nid: e-8\n\ndata: y\nid: e-8\n\ndata: z\nid: e-9\n\n");
  EXPECT_EQ(segment.channels, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(segment.base_position, 7u);
  EXPECT_EQ(segment.end_position, 9u);
  EXPECT_EQ(segment.text(segment.frames[1]), "data: y\nid: e-8\n\n");
}

TEST(Segment, ALargeBatchBecomesSeveralThatContinueEachOther) {
  BroadcastBatch batch{10, 0, {}};
  for (int i = 0; i < 20; ++i)
    batch.broadcasts.push_back({0, "a", "", std::string(100, 'x'), false});
  const auto segments = encode_segments("e", batch, 500);
  EXPECT_GT(segments.size(), 5u);
  std::uint64_t at = 10;
  for (const SegmentPtr& segment : segments) {
    EXPECT_EQ(segment->base_position, at);
    at = segment->end_position;
  }
  EXPECT_EQ(at, 30u);
}

struct Timed
    : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  int number = 0;
};
using TimedHook =
    boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

TEST(TimerWheel, VisitsWhatIsDueAndNotEarlier) {
  using namespace std::chrono_literals;
  const std::chrono::steady_clock::time_point start{};
  TimerWheel<Timed, TimedHook> wheel(10ms, start);
  Timed soon, later, gone;
  soon.number = 1;
  later.number = 2;
  gone.number = 3;
  wheel.arm(soon, start + 15ms);
  wheel.arm(later, start + 300ms);
  wheel.arm(gone, start + 15ms);
  gone.unlink();
  std::vector<int> visited;
  const auto visit = [&](Timed& timed) { visited.push_back(timed.number); };
  wheel.advance(start + 14ms, visit);
  EXPECT_TRUE(visited.empty());
  wheel.advance(start + 20ms, visit);
  EXPECT_EQ(visited, std::vector<int>{1});
  wheel.advance(start + 299ms, visit);
  EXPECT_EQ(visited, std::vector<int>{1});
  wheel.advance(start + 10s, visit);
  EXPECT_EQ(visited, (std::vector<int>{1, 2}));
}

}  // namespace
}  // namespace spillway::sse
