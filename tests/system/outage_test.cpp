// The database goes away and comes back: the worker lives, its streams stay open, nothing is
// missed.
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <mutex>
#include <set>

#include "tests/support/subscriber.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

class Outage : public testing::Test {
 protected:
  Outage() {
    load_example(database);
    worker.emplace(database.url(), std::vector<std::string>{"--handlers", comments_library()});
    worker->wait_until_ready();
    for (const char* channel : {"CommentStream:item:1", "CommentStream:*"})
      subscribers.push_back(std::make_unique<Subscriber>(std::string("/sse?channel=") + channel,
                                                         [this] { return worker->port(); }));
  }

  void comment(const std::string& id) {
    insist([&] {
      return database.query(
          "INSERT INTO spillway.events (type, idempotency_key, payload) VALUES ('CommentAdded', '" +
          id + "', '{\"comment_id\":\"" + id +
          "\",\"item_id\":\"1\",\"text\":\"hi\"}') ON CONFLICT DO NOTHING");
    });
  }
  bool all_have(std::size_t frames) {
    return eventually(
        [&] {
          for (const auto& subscriber : subscribers)
            if (subscriber->count() < frames) return false;
          return true;
        },
        60s);
  }
  bool ready() { return http(worker->port(), "GET", "/readyz").status == 200; }
  void expect_all_in_order_on_one_connection() {
    const auto expected = broadcasts_where(database, "true");
    for (const auto& subscriber : subscribers) {
      EXPECT_EQ(first_difference(subscriber->seen(), expected), "");
      EXPECT_EQ(subscriber->surprises(), std::vector<std::string>{});
      EXPECT_EQ(subscriber->connections(), 1u) << "the stream was cut";
    }
  }

  Database database;
  std::optional<Worker> worker;
  std::vector<std::unique_ptr<Subscriber>> subscribers;
};

TEST_F(Outage, is_waited_out_and_the_streams_stay_open) {
  for (const auto& subscriber : subscribers)
    ASSERT_TRUE(eventually([&] { return subscriber->connected(); }));
  // Asked all the time, from the first moment to the last: is it alive?
  std::set<int> health;
  std::mutex mutex;
  std::jthread asking([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      int status = -1;
      try {
        status = http(worker->port(), "GET", "/healthz").status;
      } catch (const std::exception&) {
      }
      {
        const std::scoped_lock lock(mutex);
        health.insert(status);
      }
      std::this_thread::sleep_for(5ms);
    }
  });

  ASSERT_TRUE(eventually([&] { return ready(); }));
  comment("before");
  ASSERT_TRUE(all_have(1));
  for (const char* mode : {"fast", "immediate"}) {
    SCOPED_TRACE(mode);
    const std::size_t before = subscribers.front()->count();
    server().stop(mode);
    EXPECT_TRUE(eventually([&] { return !ready(); }));
    // Away for long enough that every part of the worker has tried in vain, more than once.
    EXPECT_FALSE(eventually([&] { return ready() || !worker->process().running(); }, 1500ms));
    EXPECT_EQ(http(worker->port(), "POST", "/events", R"({"type":"A"})").status, 503);
    EXPECT_EQ(http(worker->port(), "GET", "/api/status").status, 503);
    EXPECT_EQ(http(worker->port(), "GET", "/").status, 200);
    server().start(server_settings());
    comment(std::string("after ") + mode);
    EXPECT_TRUE(all_have(before + 1));
    EXPECT_TRUE(eventually([&] { return ready(); }));
  }
  // And everything goes on, one by one.
  for (int n = 1; n <= 20; ++n) {
    comment("n" + std::to_string(n));
    ASSERT_TRUE(all_have(3 + static_cast<std::size_t>(n)));
  }
  asking.request_stop();
  asking.join();
  EXPECT_EQ(health, std::set<int>{200});
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), 23);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  expect_all_in_order_on_one_connection();
  const std::string log = worker->process().errors();
  EXPECT_NE(log.find("the database is away, waiting for it"), std::string::npos) << log;
  EXPECT_NE(log.find("the database is back"), std::string::npos) << log;
  EXPECT_EQ(worker->stop(), 0);
}

TEST_F(Outage, of_single_sessions_is_hardly_noticed) {
  for (const auto& subscriber : subscribers)
    ASSERT_TRUE(eventually([&] { return subscriber->connected(); }));
  // The server, or a proxy in between, ends each session in turn, again and again.
  PgConnection admin({server().url("postgres")});
  const std::string sessions =
      " FROM pg_stat_activity WHERE application_name = 'spillway-run' AND datname = '" +
      database.value("SELECT current_database()") + "'";
  for (int n = 1; n <= 200; ++n) {
    comment(std::to_string(n));
    if (n % 10 != 0) continue;
    ASSERT_TRUE(
        eventually([&] { return admin.exec("SELECT count(*)" + sessions).integer(0, 0) >= 3; }));
    comment("killed " + std::to_string(n));
    admin.exec("SELECT pg_terminate_backend(pid)" + sessions);
  }
  EXPECT_TRUE(all_have(220));
  EXPECT_TRUE(drained(database));
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), 220);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  expect_all_in_order_on_one_connection();
  EXPECT_EQ(worker->stop(), 0);
}

TEST_F(Outage, at_the_moment_of_shutdown_does_not_hold_it_up) {
  server().stop("fast");
  EXPECT_TRUE(eventually([&] { return !ready(); }));
  EXPECT_EQ(worker->stop(), 0) << worker->process().errors();
  subscribers.clear();
  server().start(server_settings());
}

TEST_F(Outage, that_loses_commits_does_not_hide_later_events) {
  // With synchronous_commit off, or after a failover to a standby that was behind, the server comes
  // back older than what the worker has seen, and draws sequences and transaction ids a second
  // time.
  subscribers.clear();  // they look at the worker that is about to be replaced
  database.query("ALTER DATABASE " + database.value("SELECT current_database()") +
                 " SET synchronous_commit = off");
  worker.emplace(database.url(), std::vector<std::string>{"--handlers", comments_library()});
  worker->wait_until_ready();  // with sessions that have the new setting
  const auto insert = [](const std::string& name) {
    return "INSERT INTO spillway.events (type, stream, payload) SELECT 'CommentAdded', 'item:' || "
           "n,"
           " jsonb_build_object('comment_id', '" +
           name + "' || n, 'item_id', '1', 'text', 'hi') FROM generate_series(1, 20) n";
  };
  std::string epoch;
  long long drawn = 0;
  long long again = 0;
  // Whatever makes the server write its log meanwhile (a page that must go, a file that is dropped)
  // leaves nothing to be lost; then once more.
  for (int attempt = 0; attempt < 5 && again >= drawn; ++attempt) {
    PgConnection session(database.target());
    session.exec("CHECKPOINT");
    // From here on what is committed stays in memory, until this process is killed and the server
    // with it.
    const std::string wal_writer_is = " FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    const auto wal_writer =
        static_cast<pid_t>(session.exec("SELECT pid" + wal_writer_is).integer(0, 0));
    ASSERT_TRUE(eventually([&] {  // asleep, so that it holds no lock
      kill(wal_writer, SIGSTOP);
      if (session.exec("SELECT wait_event" + wal_writer_is).string(0, 0) == "WalWriterMain")
        return true;
      kill(wal_writer, SIGCONT);
      return false;
    }));
    for (int n = 0; n < 40; ++n) {
      session.exec(insert("lost" + std::to_string(attempt) + "-" + std::to_string(n) + "-"));
      EXPECT_TRUE(eventually([&] { return drained(database); }));
    }
    epoch = database.value("SELECT epoch FROM spillway.stream_head");
    drawn = session.exec("SELECT last_value FROM spillway.queue_seq").integer(0, 0);
    EXPECT_GE(drawn, 800);
    ASSERT_EQ(kill(wal_writer, SIGKILL), 0);
    ASSERT_TRUE(eventually(
        [&] {
          try {
            PgConnection fresh(database.target());
            again = fresh.exec("SELECT last_value FROM spillway.queue_seq").integer(0, 0);
            return true;
          } catch (const ConnectionLost&) {
            return false;
          }
        },
        60s));
  }
  ASSERT_LT(again, drawn) << "nothing was lost, so nothing is tested";
  insist([&] { return database.query(insert("new")); });
  EXPECT_TRUE(eventually([&] {
    return insist([&] {
             return database.number(
                 "SELECT count(*) FROM item_comments WHERE comment_id LIKE 'new%'");
           }) == 20;
  })) << database.value("SELECT string_agg(status, ' ') FROM spillway.event_status")
      << worker->process().errors();
  EXPECT_TRUE(worker->process().running());
  // The numbers that were lost are given out again, for other broadcasts: under another epoch, so
  // that who comes back with an old id is told to start over.
  EXPECT_TRUE(eventually([&] {
    return insist([&] { return database.value("SELECT epoch FROM spillway.stream_head"); }) !=
           epoch;
  })) << worker->process().errors();
  EXPECT_TRUE(eventually([&] {
    SseClient client(worker->port(), "/sse/CommentStream/item:1", epoch + "-700");
    const auto connected = client.next();
    const auto reset = client.next(1s);
    return connected && !connected->id.starts_with(epoch) && reset && reset->event == "reset" &&
           reset->data.find("\"reason\":\"epoch\"") != std::string::npos;
  })) << worker->process().errors();
}

}  // namespace
}  // namespace spillway::test
