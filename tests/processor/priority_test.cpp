// Priorities: higher first among what is due, nobody starves, no stream is reordered.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <thread>

#include "processor/batch.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class PriorityTest : public testing::Test {
 protected:
  PriorityTest() {
    registry->on("*", [this](const Event& event) {
      order.push_back(event.id);
      if (event.payload.contains("fail") && event.attempt == 1) throw std::runtime_error("later");
      return Effects{};
    });
    options.retry.base = std::chrono::milliseconds(0);
  }

  void insert(int priority, const std::string& stream = "", int count = 1) {
    database.query("INSERT INTO spillway.events (type, priority, stream) SELECT 'E', " +
                   std::to_string(priority) + ", nullif('" + stream +
                   "', '') FROM generate_series(1, " + std::to_string(count) + ")");
  }

  BatchResult run_batch(std::size_t limit) {
    if (!batch) batch.emplace(session, handlers, marks, options, BatchSinks{}, 1);
    std::vector<int> lanes(lane_count);
    std::iota(lanes.begin(), lanes.end(), 0);
    return batch->run(lanes, lane_count, limit, false);
  }

  // Everything there is, in batches of `limit`.
  void drain(std::size_t limit) {
    for (int i = 0; i < 10'000; ++i) {
      const BatchResult result = run_batch(limit);
      if (result.taken == 0 && !result.blocked) return;
    }
    FAIL() << "it does not come to an end";
  }

  std::string pending() {
    return database.value(
        "SELECT string_agg(event_id || ' ' || status, ', ' ORDER BY event_id) FROM "
        "spillway.event_status WHERE status <> 'done'");
  }

  Database database;
  PgConnection session{database.target()};
  std::shared_ptr<Registry> registry = std::make_shared<Registry>();
  HandlerSet handlers{registry};
  LaneMarks marks{lane_count};
  BatchOptions options;
  std::optional<Batch> batch;
  std::vector<std::int64_t> order;  // of the handlers' calls
};

TEST_F(PriorityTest, HigherFirstThenTheCommonQueueThenWhatMayWait) {
  insert(0), insert(-1), insert(5), insert(0), insert(9), insert(5), insert(-7), insert(32767);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status = 'pending'"),
            8);
  // One at a time, in the turns that go by priority.
  for (int i = 0; i < 3; ++i) run_batch(1);
  EXPECT_EQ(order, (std::vector<std::int64_t>{8, 5, 3}));
  drain(1);
  EXPECT_EQ(order.size(), 8u);
  EXPECT_EQ(pending(), "");
  EXPECT_EQ(order.back(), 7);  // the lowest
}

TEST_F(PriorityTest, NobodyStarves) {
  insert(-3), insert(0), insert(1);
  // Never fewer urgent ones than a batch takes.
  for (int i = 0; i < 40; ++i) {
    insert(9, "", 10);
    run_batch(4);
  }
  EXPECT_EQ(database.value("SELECT string_agg(status, ' ') FROM spillway.event_status WHERE "
                           "event_id <= 3"),
            "done done done");
}

TEST_F(PriorityTest, AnUrgentEventDoesNotOvertakeItsStream) {
  insert(0, "", 50);  // 1..50
  insert(0, "s");     // 51
  insert(9, "s");     // 52
  insert(0, "s");     // 53
  insert(3, "s");     // 54
  insert(9, "t");     // 55, whose stream is free
  insert(-5, "t");    // 56
  run_batch(1);
  EXPECT_EQ(order, std::vector<std::int64_t>{55});
  drain(7);
  std::vector<std::int64_t> of_s, of_t;
  for (const auto id : order) {
    if (id >= 51 && id <= 54) of_s.push_back(id);
    if (id >= 55) of_t.push_back(id);
  }
  EXPECT_EQ(of_s, (std::vector<std::int64_t>{51, 52, 53, 54}));
  EXPECT_EQ(of_t, (std::vector<std::int64_t>{55, 56}));
}

TEST_F(PriorityTest, AFailingEventHoldsBackTheUrgentOnesOfItsStreamOnly) {
  options.retry.base = std::chrono::hours(1);
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) VALUES ('E', 's', '{\"fail\":1}')");
  drain(10);
  insert(9, "s");
  insert(9, "t");
  drain(10);
  EXPECT_EQ(pending(), "1 retrying, 2 pending");
  database.query("UPDATE spillway.waiting SET due_at = now() WHERE event_id = 1");
  drain(10);
  EXPECT_EQ(pending(), "");
  EXPECT_EQ(order, (std::vector<std::int64_t>{1, 3, 1, 2}));
}

TEST_F(PriorityTest, AScheduledEventKeepsItsPriority) {
  database.query(
      "INSERT INTO spillway.events (type, priority, execute_at) VALUES ('E', 4, now() + interval "
      "'1 hour'), ('E', 0, now() + interval '1 hour')");
  EXPECT_EQ(pending(), "1 scheduled, 2 scheduled");
  database.query("UPDATE spillway.scheduled SET due_at = now() - event_id * interval '1 second'");
  insert(1);
  run_batch(1);
  EXPECT_EQ(order, std::vector<std::int64_t>{1});
  drain(1);
  EXPECT_EQ(order.size(), 3u);
}

// Writers, each with streams of its own, and two runners; whatever the priorities and the size of
// the batches, each stream comes in the order of its ids, and everything comes once.
TEST_F(PriorityTest, NoStreamIsReorderedWhateverTheInterleaving) {
  database.query("CREATE TABLE handled (n bigserial, event bigint)");
  auto common = std::make_shared<Registry>();
  common->on("*", [](const Event& event) {
    if (event.id % 97 == 0 && event.attempt == 1) throw std::runtime_error("once more");
    return Effects{Insert{"handled", {{"event", event.id}}}};
  });
  const HandlerSet all(common);
  constexpr int writers = 3, runners = 2;
  std::atomic<int> writing{writers};
  std::atomic<std::uint64_t> blocked{0};
  {
    std::vector<std::jthread> threads;
    for (unsigned w = 0; w < writers; ++w)
      threads.emplace_back([&, w] {
        std::mt19937 random(w);
        PgConnection connection(database.target());
        for (int i = 0; i < 250; ++i) {
          std::string rows;
          for (unsigned k = 0, count = 1 + random() % 4; k < count; ++k) {
            const auto stream = random() % 6;
            rows += (k == 0 ? "('E'," : ",('E',") +
                    std::to_string(random() % 2 == 0 ? 0 : static_cast<int>(random() % 9) - 3) +
                    (stream == 0 ? ",NULL)"
                                 : ",'" + std::to_string(w) + "-" + std::to_string(stream) + "')");
          }
          connection.exec("INSERT INTO spillway.events (type, priority, stream) VALUES " + rows);
        }
        --writing;
      });
    for (unsigned r = 0; r < runners; ++r)
      threads.emplace_back([&, r] {
        std::mt19937 random(100 + r);
        PgConnection connection(database.target());
        Batch mine(connection, all, marks, options, BatchSinks{}, r);
        std::vector<int> lanes(lane_count);
        std::iota(lanes.begin(), lanes.end(), 0);
        bool careful = false;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        for (int empty = 0; empty < 20 && std::chrono::steady_clock::now() < deadline;) {
          std::shuffle(lanes.begin(), lanes.end(), random);
          const auto result =
              mine.run(lanes, 1 + random() % lane_count, 1 + random() % 12, careful);
          careful = result.outcome == BatchResult::Outcome::careful_next;
          blocked += result.blocked ? 1 : 0;
          const bool found = result.taken > 0 || result.blocked || careful || writing > 0 ||
                             result.outcome != BatchResult::Outcome::committed;
          empty = found ? 0 : empty + 1;
          if (!found) std::this_thread::yield();
        }
      });
  }
  EXPECT_EQ(pending(), "");
  EXPECT_EQ(database.value("SELECT count(*) = (SELECT count(*) FROM spillway.events) AND "
                           "count(*) = count(DISTINCT event) FROM handled"),
            "t");
  EXPECT_EQ(database.number(
                "SELECT count(*) FROM (SELECT h.event, lag(h.event) OVER (PARTITION BY e.stream "
                "ORDER BY h.n) AS before FROM handled h JOIN spillway.events e ON e.id = h.event "
                "WHERE e.stream IS NOT NULL) o WHERE before > event"),
            0);
}

}  // namespace
}  // namespace spillway
