// Twelve writers at once, with everything that transactions can do, while two workers handle what
// they insert: nothing lost, nothing of what was rolled back, order kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <set>

#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int writer_count = 12;
constexpr int transactions = 60;  // of each writer
constexpr int shared_streams = 4;

struct Sent {
  std::string key;  // its comment_id
  std::string stream;
  Clock::time_point inserted;   // before the INSERT was sent
  Clock::time_point committed;  // after COMMIT was answered
};

class Writer {
 public:
  Writer(PgTarget target, int number, std::uint64_t seed)
      : target_(std::move(target)), number_(number), random_(seed) {}

  void run() {
    PgConnection connection(target_);
    connection_ = &connection;
    for (int i = 0; i < transactions; ++i) {
      // Every writer holds at least one transaction open for two seconds.
      if (i == 10 + number_)
        long_transaction(2000, false);
      else
        some_transaction();
    }
  }

  std::vector<Sent> committed;
  std::set<std::string> rolled_back;
  int copies = 0;
  int savepoints = 0;

 private:
  int at_most(int most) { return std::uniform_int_distribution<int>(0, most)(random_); }

  std::string some_stream() {
    if (at_most(9) < 6)
      return "writer:" + std::to_string(number_) + ":" + std::to_string(at_most(1));
    return "shared:" + std::to_string(at_most(shared_streams - 1));
  }

  void some_transaction() {
    const int kind = at_most(99);
    if (kind < 35) {
      insert(1);
      end(true);
    } else if (kind < 55) {
      begin();
      for (int i = at_most(6); i >= 0; --i) insert(1 + at_most(2));
      end(at_most(2) != 0);
    } else if (kind < 75) {
      with_savepoints();
    } else if (kind < 87) {
      insert(2 + at_most(40));
      end(true);
    } else if (kind < 95) {
      copy(1 + at_most(30));
    } else {
      long_transaction(at_most(1500), at_most(3) == 0);
    }
  }

  void with_savepoints() {
    ++savepoints;
    begin();
    insert(1);
    connection_->exec("SAVEPOINT outside");
    insert(1 + at_most(2));
    const std::size_t kept = pending_.size();
    connection_->exec("SAVEPOINT inside");
    insert(1 + at_most(2));
    if (at_most(1) == 0) {
      connection_->exec("ROLLBACK TO inside");
      forget_from(kept);
    } else {
      connection_->exec("RELEASE inside");
    }
    insert(1);
    if (at_most(2) == 0) {
      connection_->exec("ROLLBACK TO outside");
      forget_from(1);
      insert(1);
    }
    end(at_most(4) != 0);
  }

  void long_transaction(int milliseconds, bool give_up) {
    begin();
    insert(1 + at_most(2));
    connection_->exec("SELECT pg_sleep(" + std::to_string(milliseconds / 1e3) + ")");
    insert(1);
    end(!give_up);
  }

  void begin() { begin_ = true, connection_->exec("BEGIN"); }

  void insert(int rows) {
    std::string values;
    const auto now = Clock::now();
    for (int i = 0; i < rows; ++i) {
      pending_.push_back({next_key(), some_stream(), now, {}});
      const Sent& sent = pending_.back();
      values +=
          (i == 0 ? "" : ",") + ("('CommentAdded','" + sent.stream + "','" + payload(sent)) + "')";
    }
    connection_->exec("INSERT INTO spillway.events (type, stream, payload) VALUES " + values);
  }

  void copy(int rows) {
    ++copies;
    const auto path = scratch_folder() / ("writer" + std::to_string(number_) + ".txt");
    std::ofstream file(path);
    const auto now = Clock::now();
    for (int i = 0; i < rows; ++i) {
      pending_.push_back({next_key(), some_stream(), now, {}});
      file << "CommentAdded\t" << pending_.back().stream << '\t' << payload(pending_.back())
           << '\n';
    }
    file.close();
    connection_->exec("COPY spillway.events (type, stream, payload) FROM '" + path.string() + "'");
    end(true);
  }

  void end(bool commit) {
    if (std::exchange(begin_, false)) connection_->exec(commit ? "COMMIT" : "ROLLBACK");
    if (!commit) return forget_from(0);
    const auto now = Clock::now();
    for (Sent& sent : pending_) {
      sent.committed = now;
      committed.push_back(std::move(sent));
    }
    pending_.clear();
  }

  void forget_from(std::size_t first) {
    for (std::size_t i = first; i < pending_.size(); ++i) rolled_back.insert(pending_[i].key);
    pending_.resize(first);
  }

  std::string next_key() { return std::to_string(number_) + "-" + std::to_string(++sent_); }
  static std::string payload(const Sent& sent) {
    return R"({"comment_id":")" + sent.key + R"(","item_id":")" + sent.stream + R"(","text":"hi"})";
  }

  const PgTarget target_;
  const int number_;
  std::mt19937_64 random_;
  PgConnection* connection_ = nullptr;
  bool begin_ = false;
  int sent_ = 0;
  std::vector<Sent> pending_;
};

TEST(Writers, twelve_at_once_lose_nothing_and_keep_the_order_of_every_stream) {
  const std::uint64_t seed = printed_seed();
  Database database;
  load_example(database);
  Worker one(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  Worker two(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  one.wait_until_ready();
  two.wait_until_ready();

  std::vector<std::unique_ptr<Writer>> writers;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < writer_count; ++i) {
      writers.push_back(
          std::make_unique<Writer>(database.target(), i, seed + static_cast<std::uint64_t>(i)));
      threads.emplace_back([&writer = *writers.back()] { writer.run(); });
    }
  }

  std::map<std::string, Sent> sent;
  std::set<std::string> rolled_back;
  int copies = 0, savepoints = 0;
  for (const auto& writer : writers) {
    for (const Sent& event : writer->committed) sent[event.key] = event;
    rolled_back.merge(writer->rolled_back);
    copies += writer->copies;
    savepoints += writer->savepoints;
  }
  ASSERT_GT(copies, 0);
  ASSERT_GT(savepoints, 0);
  ASSERT_GT(rolled_back.size(), 100u);
  const auto count = static_cast<long long>(sent.size());

  EXPECT_TRUE(eventually([&] { return drained(database); }, 60s));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status WHERE status = 'done'"),
            count);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.event_status"), count);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  EXPECT_EQ(database.value("SELECT concat_ws(' ', count(*), min(position), max(position))"
                           " FROM spillway.broadcasts"),
            std::to_string(count) + " 1 " + std::to_string(count));

  const Rows rows = database.query("SELECT comment_id FROM item_comments");
  EXPECT_EQ(static_cast<long long>(rows.size()), count);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::string key = rows.string(row, 0);
    EXPECT_TRUE(sent.contains(key)) << key;
    EXPECT_FALSE(rolled_back.contains(key)) << key << " was rolled back";
  }

  const Rows handled = database.query(
      "SELECT e.payload ->> 'comment_id', e.stream, e.id,"
      " extract(epoch FROM b.created_at - e.created_at)"
      " FROM spillway.broadcasts b JOIN spillway.events e ON e.id = b.event_id ORDER BY "
      "b.position");
  ASSERT_EQ(static_cast<long long>(handled.size()), count);
  std::map<std::string, std::int64_t> last_id;             // of streams with one writer
  std::map<std::string, Clock::time_point> last_inserted;  // of shared ones
  std::size_t own = 0, shared = 0;
  for (std::size_t row = 0; row < handled.size(); ++row) {
    const Sent& event = sent.at(handled.string(row, 0));
    const std::string stream = handled.string(row, 1);
    ASSERT_EQ(stream, event.stream);
    if (stream.starts_with("writer:")) {
      ++own;
      const std::int64_t id = handled.integer(row, 2);
      EXPECT_GT(id, last_id[stream]) << event.key << " of " << stream;
      last_id[stream] = std::max(last_id[stream], id);
    } else {
      // Something handled earlier was inserted after this one's commit: it has overtaken.
      ++shared;
      Clock::time_point& latest = last_inserted.try_emplace(stream, event.inserted).first->second;
      EXPECT_GE(event.committed, latest) << event.key << " of " << stream << " was overtaken";
      latest = std::max(latest, event.inserted);
    }
  }
  EXPECT_GT(own, 500u);
  EXPECT_GT(shared, 500u);
  std::cout << "[  writers ] " << count << " events committed, " << rolled_back.size()
            << " rolled back, " << copies << " COPYs, " << savepoints
            << " transactions with savepoints; " << own << " in streams of one writer, " << shared
            << " in shared ones" << std::endl;
  EXPECT_EQ(one.stop(), 0);
  EXPECT_EQ(two.stop(), 0);
}

TEST(Writers, a_long_transaction_holds_up_nobody_and_is_not_forgotten) {
  Database database;
  load_example(database);
  Worker worker(database.url(), {"--handlers", comments_library(), "--runners", "2"});
  worker.wait_until_ready();
  const auto insert = [](const std::string& key) {
    return "INSERT INTO spillway.events (type, stream, payload) SELECT 'CommentAdded', 'item:' || "
           "n,"
           " jsonb_build_object('comment_id', '" +
           key + "' || n, 'item_id', n::text, 'text', 'hi') FROM generate_series(1, 200) n";
  };
  PgConnection open_one(database.target());
  open_one.exec("BEGIN");
  open_one.exec(insert("late"));
  // Whole rounds of other people's events go by, in the same streams and lanes, with higher seqs.
  for (int round = 1; round <= 5; ++round) {
    database.query(insert("round" + std::to_string(round) + "-"));
    ASSERT_TRUE(eventually(
        [&] { return database.number("SELECT count(*) FROM item_comments") == 200 * round; }));
  }
  open_one.exec("COMMIT");
  EXPECT_TRUE(
      eventually([&] { return database.number("SELECT count(*) FROM item_comments") == 1200; }));
  EXPECT_TRUE(drained(database));
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace spillway::test
