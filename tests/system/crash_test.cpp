// Invariant 1 under `kill -9` and a crash of the database: no lost effect, no second one; and every
// subscriber sees each position of its channels once, in order.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>

#include "processor/queue_store.hpp"
#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

constexpr int event_count = 50'000;
constexpr int kill_count = 40;
constexpr int portion = event_count / (kill_count + 1);  // events between two kills, about
constexpr int server_crash_at = kill_count / 2;          // of these kills

// One `spillway run` after the other, in the same place.
class Place {
 public:
  Place(std::string url, std::string name) : url_(std::move(url)), name_(std::move(name)) {}

  void start() {
    application_ = name_ + "-" + std::to_string(++starts_);
    worker_ = std::make_unique<Worker>(
        url_ + "&application_name=" + application_,
        std::vector<std::string>{"--handlers", comments_library(), "--batch", "120", "--runners",
                                 "2", "--connect-timeout", "60s", "--sse-retry", "10ms"});
  }
  void wait_until_ready() {
    worker_->wait_until_ready();
    port = worker_->port();
  }
  void kill() {
    port = 0;
    worker_->kill();
    note_log();
  }
  std::optional<int> stop() {
    const auto code = worker_->stop();
    port = 0;
    note_log();
    return code;
  }
  Process& process() { return worker_->process(); }
  const std::string& application() const { return application_; }

  std::atomic<int> port{0};
  std::vector<std::string> complaints;  // lines of its log that say an event failed

 private:
  void note_log() {
    std::stringstream log(worker_->process().errors());
    for (std::string line; std::getline(log, line);) {
      // A kill that hits while an event runs alone, under suspicion, counts as its attempt.
      if (line.find("failed, next in") != std::string::npos &&
          line.find("the process ended while this event was being handled") != std::string::npos)
        continue;
      for (const char* words :
           {"dead letter", "failed, next in", "could not be completed", "error"})
        if (line.find(words) != std::string::npos) {
          complaints.push_back(line);
          break;
        }
    }
  }

  const std::string url_;
  const std::string name_;
  int starts_ = 0;
  std::string application_;
  std::unique_ptr<Worker> worker_;
};

// Inserts the events in portions, never more than it is allowed to. After a lost connection nobody
// knows whether the portion is in, so it is sent again: the idempotency keys make that safe.
class Inserter {
 public:
  explicit Inserter(std::string url) : url_(std::move(url)), thread_([this] { run(); }) {}
  ~Inserter() {
    stopping_ = true;
    thread_.join();
  }
  Inserter(const Inserter&) = delete;
  Inserter& operator=(const Inserter&) = delete;

  std::atomic<int> allowed{0};
  std::atomic<int> inserted{0};

 private:
  void run() {
    std::unique_ptr<PgConnection> connection;
    while (!stopping_ && inserted < event_count) {
      const int first = inserted + 1;
      const int last = std::min(inserted + 350, allowed.load());
      if (last < first) {
        std::this_thread::sleep_for(2ms);
        continue;
      }
      try {
        if (!connection) connection = std::make_unique<PgConnection>(PgTarget{url_, "inserter"});
        connection->exec(
            "INSERT INTO spillway.events (type, stream, idempotency_key, payload, context)"
            " SELECT 'CommentAdded', 'item:' || item, 'comment ' || n,"
            "  jsonb_build_object('comment_id', n::text, 'item_id', item::text, 'author_name', "
            "'Ada',"
            "    'text', 'comment ' || n || E' of \"Zo\\u00eb\",\\nin two lines'),"
            "  jsonb_build_object('item_owner_id', (item % 10)::text)"
            " FROM generate_series(" +
            std::to_string(first) + "," + std::to_string(last) +
            ") n, LATERAL (SELECT (hashint4(n) & 2147483647) % 100 AS item) i"
            " ORDER BY n ON CONFLICT DO NOTHING");
        inserted = last;
      } catch (const ConnectionLost&) {
        connection.reset();
        std::this_thread::sleep_for(5ms);
      }
    }
  }

  const std::string url_;
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
};

std::string target_of(const std::vector<std::string>& channels) {
  std::string target = "/sse?";
  for (const auto& channel : channels) target += "channel=" + channel + "&";
  target.pop_back();
  return target;
}

struct Audience {
  std::vector<std::string> channels;
  std::string condition;  // the same in SQL
  std::unique_ptr<Subscriber> subscriber;
};

TEST(Crash, killed_workers_and_a_crashed_database_lose_nothing_and_do_nothing_twice) {
  std::mt19937_64 random(printed_seed());
  const auto at_most = [&](int most) {
    return std::uniform_int_distribution<int>(0, most)(random);
  };
  Database database;
  load_example(database);

  std::array<std::unique_ptr<Place>, 2> places;
  for (std::size_t i = 0; i < places.size(); ++i) {
    places[i] = std::make_unique<Place>(database.url(), "place" + std::to_string(i));
    places[i]->start();
  }
  for (auto& place : places) place->wait_until_ready();

  // To whichever worker lives; the turn changes, so that streams move between the processes.
  std::atomic<std::size_t> turn{0};
  const auto any_port = [&] {
    const std::size_t first = turn++;
    for (std::size_t i = 0; i < places.size(); ++i)
      if (const int port = places[(first + i) % places.size()]->port; port != 0) return port;
    return 0;
  };
  std::array<Audience, 3> audiences;
  audiences[0].channels = {"CommentStream:*", "NotificationStream:user:3"};
  audiences[0].condition =
      "channel LIKE 'CommentStream:%' OR channel = 'NotificationStream:user:3'";
  audiences[1].condition = audiences[2].condition = "false";
  for (int i = 0; i < 30; ++i) {
    audiences[1].channels.push_back("CommentStream:item:" + std::to_string(i * 3));
    audiences[1].condition += " OR channel = '" + audiences[1].channels.back() + "'";
  }
  for (int i = 0; i < 10; ++i) {
    audiences[2].channels.push_back("NotificationStream:user:" + std::to_string(i));
    audiences[2].condition += " OR channel = '" + audiences[2].channels.back() + "'";
  }
  for (Audience& audience : audiences)
    audience.subscriber = std::make_unique<Subscriber>(target_of(audience.channels), any_port);
  for (const Audience& audience : audiences)
    ASSERT_TRUE(eventually([&] { return audience.subscriber->connected(); }));

  const auto settled = [&] {  // events, so far
    return insist([&] { return database.number("SELECT last / 2 FROM spillway.stream_head"); });
  };
  Inserter inserter(database.url());
  inserter.allowed = portion;
  int with_work_left = 0, frozen = 0, frozen_in_a_batch = 0, both = 0, while_starting = 0;
  for (int kill = 0; kill < kill_count; ++kill) {
    const int moment = kill * portion + at_most(portion * 9 / 10);
    ASSERT_TRUE(eventually([&] { return settled() >= moment; }, 120s))
        << "kill " << kill << ": " << settled() << " events are done, " << moment << " were to be";
    Place& first = *places[static_cast<std::size_t>(at_most(1))];
    Place& second = &first == places[0].get() ? *places[1] : *places[0];
    // There must be something to interrupt; a quick machine has done all it was given by now.
    long long left = 0;
    eventually([&] {
      left = insist([&] { return database.number("SELECT count(*) FROM spillway.queue"); });
      if (left == 0 && inserter.inserted == inserter.allowed)
        inserter.allowed = std::min(inserter.inserted + portion, event_count);
      return left > 0 || inserter.inserted == event_count;
    });
    if (left > 0) ++with_work_left;

    if (at_most(1) == 0) {
      // Stopped in its tracks first, so that what it had in hand can be seen from outside.
      ++frozen;
      first.process().signal(SIGSTOP);
      if (insist([&] {
            return database.number(
                "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE locktype = 'advisory' AND granted AND classid = " +
                std::to_string(lane_lock_class) + " AND application_name = '" +
                first.application() + "'");
          }) > 0)
        ++frozen_in_a_batch;
    }
    first.kill();
    const bool second_too = at_most(4) == 0;
    if (second_too) {
      ++both;
      second.kill();
    }
    if (kill == server_crash_at) server().restart("immediate");
    first.start();
    if (second_too) second.start();
    if (at_most(5) == 0) {
      ++while_starting;
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(at_most(60));
      eventually([&] { return std::chrono::steady_clock::now() > end; });
      first.kill();
      first.start();
    }
    first.wait_until_ready();
    if (second_too) second.wait_until_ready();
    // Always enough for the workers to have their hands full.
    inserter.allowed =
        std::min(std::max(inserter.allowed.load(), (kill + 2) * portion), event_count);
  }
  inserter.allowed = event_count;
  // Once more, with both alive and everything under way.
  server().restart("immediate");

  EXPECT_TRUE(eventually([&] { return inserter.inserted == event_count; }, 60s));
  EXPECT_TRUE(eventually([&] { return insist([&] { return drained(database); }); }, 120s));

  // Rows: every event's once.
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), event_count);
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), event_count);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events e JOIN item_comments c"
                            " ON c.comment_id = e.payload ->> 'comment_id'"
                            " AND c.text = e.payload ->> 'text'"),
            event_count);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status <> 'done'"),
            0);

  // Positions: dense, two for each event, side by side.
  const std::string expected = std::to_string(2 * event_count);
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(position), max(position))"
                           " FROM spillway.broadcasts"),
            expected + " 1 " + expected);
  EXPECT_EQ(database.value("SELECT last FROM spillway.stream_head"), expected);
  EXPECT_EQ(
      database.number("SELECT count(*) FROM (SELECT FROM spillway.broadcasts GROUP BY event_id"
                      " HAVING count(*) = 2 AND max(position) - min(position) = 1"
                      " AND array_agg(event_type ORDER BY position)"
                      "   = '{CommentAdded,NewCommentNotification}') pairs"),
      event_count);
  // Streams: in the order of their ids.
  EXPECT_EQ(
      database.number("SELECT count(*) FROM (SELECT b.event_id,"
                      " lag(b.event_id) OVER (PARTITION BY e.stream ORDER BY b.position) AS before"
                      " FROM spillway.broadcasts b JOIN spillway.events e ON e.id = b.event_id) o"
                      " WHERE before > event_id"),
      0);

  // Subscribers: each position once, in order, in the bytes of the table.
  std::size_t frames = 0, reconnections = 0;
  for (std::size_t i = 0; i < audiences.size(); ++i) {
    const auto wanted = broadcasts_where(database, audiences[i].condition);
    ASSERT_GT(wanted.size(), 10'000u);
    const Subscriber& subscriber = *audiences[i].subscriber;
    EXPECT_TRUE(eventually([&] { return subscriber.count() >= wanted.size(); }, 60s));
    EXPECT_EQ(first_difference(subscriber.seen(), wanted), "") << "subscriber " << i;
    EXPECT_EQ(subscriber.surprises(), std::vector<std::string>{}) << "subscriber " << i;
    EXPECT_GE(subscriber.connections(), 5u) << "subscriber " << i << " was hardly ever cut off";
    frames += wanted.size();
    reconnections += subscriber.connections() - 1;
  }

  // The workers saw no event fail, and still stop in order.
  for (auto& place : places) {
    EXPECT_EQ(place->stop(), 0);
    EXPECT_EQ(place->complaints, std::vector<std::string>{});
  }

  // And the kills were worth their name.
  std::cout << "[   kills  ] " << kill_count << ", " << both << " of both workers, "
            << while_starting << " more while starting; work left at " << with_work_left << "; "
            << frozen_in_a_batch << " of " << frozen << " looked at had a batch in hand\n"
            << "[  streams ] " << frames << " frames, " << reconnections << " reconnections"
            << std::endl;
  EXPECT_GE(with_work_left, 30);
  EXPECT_GT(frozen_in_a_batch, 0);
  EXPECT_GT(frozen, 0);
}

}  // namespace
}  // namespace spillway::test
