#include "processor/replay.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "processor/batch.hpp"
#include "processor/replay_guard.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;
using test::eventually;
using namespace std::chrono_literals;

using Outcome = Replay::Outcome;

class ReplayTest : public testing::Test {
 protected:
  ReplayTest() {
    // No key: what is applied twice is there twice.
    database.query("CREATE TABLE rows (n serial, event bigint, v int CHECK (v <> 13))");
    registry.on("Row", [](const Event& event) {
      return Effects{Insert{"rows", {{"event", event.id}, {"v", event.payload.value("v", 0)}}},
                     SSEBroadcast{"rows", "Row", event.id},
                     ScheduleEvent{"Later"},
                     TriggerWebhook{"https://hooks.example/row"},
                     KVSet{"last", event.id},
                     Log{"info", "row"}};
    });
    registry.on("Throw", [](const Event&) -> Effects { throw std::runtime_error("no luck"); });
    options.log = [this](const LogOrigin& origin, const Log&) {
      logged.push_back(origin.event_id);
    };
  }

  void insert(const std::string& type, int count = 1, const std::string& stream = "", int v = 0) {
    database.query("INSERT INTO spillway.events (type, stream, payload) SELECT '" + type +
                   "', nullif('" + stream + "', ''), '{\"v\":" + std::to_string(v) +
                   "}' FROM generate_series(1, " + std::to_string(count) + ")");
  }

  // As if live work had handled all that is queued.
  void all_done() { database.query("DELETE FROM spillway.queue; DELETE FROM spillway.ranked"); }

  ReplayState begin(const ReplayRequest& request = {}, const std::string& name = "") {
    return ReplayStore(session).begin(name, request, 0ms);
  }

  Outcome run(Replay& replay) {
    Outcome outcome = Outcome::more;
    for (steps = 0; steps < 1000; ++steps) {
      outcome = replay.step();
      if (outcome == Outcome::finished || outcome == Outcome::stopped) return outcome;
    }
    return outcome;
  }
  Outcome run(std::int64_t id) {
    Replay replay(session, handlers, id, options);
    return run(replay);
  }
  ReplayState state(std::int64_t id) { return ReplayStore(session).read(id); }

  // The events of the rows, in the order of the rows.
  std::string rows() {
    return database.value("SELECT string_agg(event::text, ' ' ORDER BY n) FROM rows");
  }

  Database database;
  PgConnection session{database.target()};
  std::shared_ptr<Registry> registry_owner = std::make_shared<Registry>();
  Registry& registry = *registry_owner;
  HandlerSet handlers{registry_owner};
  ReplayOptions options;
  std::vector<std::int64_t> logged;
  int steps = 0;
};

EffectKinds kinds(std::initializer_list<const char*> names) {
  EffectKinds some;
  for (const char* name : names) some.insert(effect_kind(name).value());
  return some;
}

TEST_F(ReplayTest, WhatChangesRowsIsAppliedAgainAndWhatTellsTheWorldIsNot) {
  insert("Row", 5);
  all_done();
  options.batch = 2;
  const ReplayState replay = begin();
  EXPECT_EQ(run(replay.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3 4 5");
  EXPECT_EQ(database.value("SELECT value FROM spillway.kv"), "5");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.webhooks"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 5);
  EXPECT_TRUE(logged.empty());

  const ReplayState after = state(replay.id);
  EXPECT_EQ(after.name, "replay-" + std::to_string(replay.id));
  EXPECT_EQ(after.events, 5);
  EXPECT_EQ(after.failed, 0);
  EXPECT_TRUE(after.finished_at);
  for (const char* kind :
       {"Insert", "SSEBroadcast", "ScheduleEvent", "TriggerWebhook", "KVSet", "Log"})
    EXPECT_EQ(after.asked[effect_kind(kind).value()], 5u) << kind;
  EXPECT_EQ(after.asked[effect_kind("Delete").value()], 0u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.replay_left"), 0);
}

TEST_F(ReplayTest, KindsThatAreAskedForAreAppliedWithTheirOrigin) {
  insert("Row", 2);
  database.query(
      "WITH p AS (UPDATE spillway.stream_head SET last = last + 1 RETURNING last)"
      " INSERT INTO spillway.broadcasts (position, channel, event_type, data)"
      " SELECT last, 'rows', 'Row', '0' FROM p");
  all_done();
  ReplayRequest request;
  request.kinds = kinds({"SSEBroadcast", "ScheduleEvent", "TriggerWebhook", "Log"});
  EXPECT_EQ(run(begin(request).id), Outcome::finished);
  EXPECT_EQ(rows(), "");
  EXPECT_EQ(database.value("SELECT string_agg(position || ':' || coalesce(event_id::text, '-'),"
                           " ' ' ORDER BY position) FROM spillway.broadcasts"),
            "1:- 2:1 3:2");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events later JOIN spillway.events e"
                            " ON e.id = later.causation_id AND e.correlation_id ="
                            " later.correlation_id WHERE later.type = 'Later' AND e.type = 'Row'"),
            2);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.webhooks"), 2);
  EXPECT_EQ(logged, (std::vector<std::int64_t>{1, 2}));
}

TEST_F(ReplayTest, AScheduledEventWithAKeyThatWasUsedIsNotMadeAgain) {
  registry.on("Remind", [](const Event& event) {
    ScheduleEvent later{"Later"};
    later.idempotency_key = "later-" + std::to_string(event.id);
    return Effects{later};
  });
  insert("Remind");
  database.query("INSERT INTO spillway.events (type, idempotency_key) VALUES ('Later', 'later-1')");
  all_done();
  ReplayRequest request;
  request.kinds = kinds({"ScheduleEvent"});
  EXPECT_EQ(run(begin(request).id), Outcome::finished);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 2);
}

TEST_F(ReplayTest, OnlyTheEventsThatAreAskedForAreRead) {
  registry.on("Other", [](const Event& event) {
    return Effects{Insert{"rows", {{"event", event.id}}}};
  });
  insert("Row", 2, "a");    // 1 2
  insert("Row", 2, "b");    // 3 4
  insert("Row", 2);         // 5 6
  insert("Other", 2, "a");  // 7 8
  all_done();
  const auto replayed = [&](const ReplayRequest& request) {
    database.query("TRUNCATE rows");
    EXPECT_EQ(run(begin(request).id), Outcome::finished);
    return rows();
  };
  ReplayRequest request;
  request.types = {"Row"};
  EXPECT_EQ(replayed(request), "1 2 3 4 5 6");
  request.streams = {"a", "b"};
  EXPECT_EQ(replayed(request), "1 2 3 4");
  request.types.clear();
  EXPECT_EQ(replayed(request), "1 2 3 4 7 8");
  request.from = 2;
  request.to = 7;
  EXPECT_EQ(replayed(request), "2 3 4 7");
  request = {};
  request.to = 1000;  // beyond the end
  request.from = 7;
  EXPECT_EQ(replayed(request), "7 8");
  request.from = 9;
  EXPECT_EQ(replayed(request), "");
  request = {};
  request.since = database.value("SELECT created_at FROM spillway.events WHERE id = 3");
  request.until = database.value("SELECT created_at FROM spillway.events WHERE id = 6");
  EXPECT_EQ(replayed(request), "3 4 5");
}

TEST_F(ReplayTest, TimesAreMadeAbsoluteAndNonsenseIsRefused) {
  ReplayStore store(session);
  EXPECT_EQ(store.absolute_time("2026-01-31T12:00:00+01"), "2026-01-31 11:00:00+00");
  EXPECT_NE(store.absolute_time("yesterday"), "yesterday");
  EXPECT_THROW(static_cast<void>(store.absolute_time("soon")), std::invalid_argument);
}

TEST_F(ReplayTest, AFilterThatFindsLittleWalksTheLogInShortSteps) {
  registry.on("Needle", [](const Event& event) {
    return Effects{Insert{"rows", {{"event", event.id}}}};
  });
  insert("Row", 45000);
  insert("Needle");
  all_done();
  ReplayRequest request;
  request.types = {"Needle"};
  EXPECT_EQ(run(begin(request).id), Outcome::finished);
  EXPECT_EQ(rows(), "45001");
  EXPECT_GE(steps, 2);
}

TEST_F(ReplayTest, AStepTakesNoMorePayloadThanItMay) {
  database.query(
      "INSERT INTO spillway.events (type, payload) SELECT 'Row', jsonb_build_object('x',"
      " (SELECT string_agg(md5(g || '.' || i), '') FROM generate_series(1, 40) i))"
      " FROM generate_series(1, 6) g");
  all_done();
  options.bytes = 2000;
  EXPECT_EQ(run(begin().id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3 4 5 6");
  EXPECT_GE(steps, 2);
}

TEST_F(ReplayTest, EventsThatWereNotDoneAtItsBeginningAreLeftToLiveWork) {
  insert("Row", 6);
  all_done();
  insert("Row");  // 7, pending
  database.query(
      "INSERT INTO spillway.events (type, execute_at) VALUES ('Row', now() + interval '1 hour')");
  insert("Row", 2);  // 9, to be retried; 10, dead
  insert("Row");     // 11, pending and urgent
  database.query("DELETE FROM spillway.queue WHERE event_id IN (9, 10)");
  database.query(
      "INSERT INTO spillway.waiting (event_id, lane, attempts, due_at) VALUES (9, 0, 1, now())");
  database.query(
      "INSERT INTO spillway.dead_letters (event_id, error, attempts) VALUES (10, 'x', 5)");
  database.query("INSERT INTO spillway.events (type, priority) VALUES ('Row', 9)");  // 12
  insert("Row");  // 13: done, behind all of them
  database.query("DELETE FROM spillway.queue WHERE event_id = 13");

  options.batch = 3;
  Replay replay(session, handlers, begin().id, options);
  EXPECT_EQ(replay.step(), Outcome::more);
  // Live work handles them while the replay is under way: they are done by the time it comes by.
  LaneMarks marks(lane_count);
  BatchOptions live;
  Batch batch(session, handlers, marks, live, {}, 1);
  database.query("UPDATE spillway.scheduled SET due_at = now()");
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  while (batch.run(lanes, lane_count, 100, false).taken > 0) continue;
  ASSERT_EQ(database.value("SELECT string_agg(event_id::text, ' ' ORDER BY event_id) FROM"
                           " spillway.event_status WHERE status <> 'done'"),
            "10");
  EXPECT_EQ(run(replay), Outcome::finished);
  EXPECT_EQ(database.value("SELECT string_agg(event || 'x' || count, ' ' ORDER BY event) FROM"
                           " (SELECT event, count(*) AS count FROM rows r JOIN spillway.events e ON"
                           "  e.id = r.event WHERE e.type = 'Row' GROUP BY event) r"),
            "1x1 2x1 3x1 4x1 5x1 6x1 7x1 8x1 9x1 11x1 12x1 13x1");
  EXPECT_EQ(replay.state().events, 7);
}

TEST_F(ReplayTest, AnIdOfATransactionThatWasOpenAtItsBeginningIsLeftToLiveWork) {
  insert("Row", 2);
  PgConnection slow(database.target());
  slow.exec("BEGIN; INSERT INTO spillway.events (type) VALUES ('Row'), ('Row')");  // 3 4
  insert("Row", 2);                                                                // 5 6
  PgConnection gone(database.target());
  gone.exec("BEGIN; INSERT INTO spillway.events (type) VALUES ('Row'); ROLLBACK");  // 7
  insert("Row");                                                                    // 8
  all_done();
  ReplayRequest request;
  request.to = 100;
  const ReplayState replay = begin(request);
  EXPECT_EQ(replay.last, 8);
  slow.exec("COMMIT");
  all_done();
  EXPECT_EQ(run(replay.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 5 6 8");
}

TEST_F(ReplayTest, ItsBeginningWaitsForInsertsThatAreUnderWay) {
  insert("Row", 2);
  PgConnection slow(database.target());
  slow.exec("BEGIN; INSERT INTO spillway.events (type) VALUES ('Row')");  // 3
  insert("Row");                                                          // 4
  all_done();
  std::optional<ReplayState> begun;
  std::thread thread([&] { begun = ReplayStore(session).begin("", {}, 1h); });
  // It looks at the locks again and again until that one is gone.
  ASSERT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_stat_activity WHERE datname ="
               " current_database() AND query LIKE '%pg_locks%' AND pid = " +
               std::to_string(session.backend_pid())) == 1;
  }));
  slow.exec("COMMIT");
  thread.join();
  // Settled, so nothing but what is still to be done was noted.
  EXPECT_EQ(database.value("SELECT string_agg(first_id || '-' || last_id, ' ')"
                           " FROM spillway.replay_left"),
            "3-3");
  all_done();
  EXPECT_EQ(run(begun->id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 4");
}

TEST_F(ReplayTest, DeadLettersRunWhenAskedForIfTheyStillAreDead) {
  insert("Row", 4);
  all_done();
  database.query(
      "INSERT INTO spillway.dead_letters (event_id, error, attempts) VALUES (2, 'x', 5),"
      " (3, 'x', 5)");
  EXPECT_EQ(run(begin().id), Outcome::finished);
  EXPECT_EQ(rows(), "1 4");
  database.query("TRUNCATE rows");
  ReplayRequest request;
  request.include_dead = true;
  const ReplayState replay = begin(request);
  database.query("DELETE FROM spillway.dead_letters WHERE event_id = 3");  // retried by somebody
  EXPECT_EQ(run(replay.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 4");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 1);
}

TEST_F(ReplayTest, AHandlerThatThrowsStopsItBehindWhatWentBefore) {
  insert("Row", 3);
  insert("Throw");  // 4
  insert("Row", 3);
  all_done();
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::stopped);
  EXPECT_EQ(rows(), "1 2 3");
  ReplayState stopped = state(begun.id);
  EXPECT_EQ(stopped.next, 4);
  EXPECT_EQ(stopped.last_error, "event 4 (Throw): the handler threw: no luck");
  EXPECT_EQ(stopped.events, 3);
  EXPECT_EQ(run(begun.id), Outcome::stopped);  // as long as the handler is what it is

  auto now = std::make_shared<Registry>();
  now->on("Row", registry.find("Row")->front().handler);
  now->on("Throw", registry.find("Row")->front().handler);
  handlers.replace(now);
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3 4 5 6 7");
  EXPECT_EQ(state(begun.id).last_error, "");
  EXPECT_EQ(state(begun.id).events, 7);
}

TEST_F(ReplayTest, AnEffectThatIsRefusedStopsItAtItsEvent) {
  insert("Row", 20);
  insert("Row", 1, "", 13);  // 21
  insert("Row", 20);
  insert("Throw");
  all_done();
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::stopped);
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || max(event) FROM rows"), "20 20");
  EXPECT_EQ(state(begun.id).next, 21);
  EXPECT_NE(state(begun.id).last_error.find("event 21 (Row): effect 0 (Insert into rows)"),
            std::string::npos)
      << state(begun.id).last_error;
}

TEST_F(ReplayTest, FailuresThatAreSkippedAreCountedAndTheFirstOnesNamed) {
  for (int i = 0; i < 12; ++i) {
    insert("Row", 5);
    insert("Row", 1, "", 13);
    insert("Throw");
  }
  all_done();
  options.skip_failures = true;
  options.batch = 50;
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || count(DISTINCT event) FROM rows"), "60 60");
  const ReplayState after = state(begun.id);
  EXPECT_EQ(after.events, 60);
  EXPECT_EQ(after.failed, 24);
  ASSERT_EQ(after.failures.size(), 10u);
  EXPECT_EQ(after.failures[0].event_id, 6);
  EXPECT_EQ(after.failures[1].event_id, 7);
  EXPECT_EQ(after.failures[1].error, "event 7 (Throw): the handler threw: no luck");
}

TEST_F(ReplayTest, WhatOnlyTheCommitRefusesIsPinnedDown) {
  database.query(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN IF new.v = 14 THEN RAISE ''not 14''; END IF; RETURN NULL; END';"
      "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON rows DEFERRABLE INITIALLY DEFERRED"
      " FOR EACH ROW EXECUTE FUNCTION refuse()");
  insert("Row", 5);
  insert("Row", 1, "", 14);
  insert("Row", 5);
  all_done();
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::stopped);
  EXPECT_EQ(rows(), "1 2 3 4 5");
  EXPECT_EQ(state(begun.id).next, 6);
  options.skip_failures = true;
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3 4 5 7 8 9 10 11");
}

TEST_F(ReplayTest, TroubleThatPassesIsNoEventsFault) {
  database.query(
      "CREATE SEQUENCE tries;"
      "CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN IF nextval(''tries'') <= 5 THEN RAISE ''collision'' USING ERRCODE = ''40P01'';"
      " END IF; RETURN NULL; END';"
      "CREATE TRIGGER collide AFTER INSERT ON rows FOR EACH STATEMENT EXECUTE FUNCTION collide()");
  insert("Row", 10);
  all_done();
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3 4 5 6 7 8 9 10");
  EXPECT_EQ(state(begun.id).failed, 0);
}

TEST_F(ReplayTest, TroubleThatDoesNotPassStopsIt) {
  database.query(
      "CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN IF new.event = 3 THEN RAISE ''collision'' USING ERRCODE = ''40P01''; END IF;"
      " RETURN NULL; END';"
      "CREATE TRIGGER collide AFTER INSERT ON rows FOR EACH ROW EXECUTE FUNCTION collide()");
  insert("Row", 5);
  all_done();
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::stopped);
  EXPECT_EQ(rows(), "1 2");
  EXPECT_EQ(state(begun.id).next, 3);
}

TEST_F(ReplayTest, DeclaredReadsSeeTheEffectsOfEarlierEventsOfTheStream) {
  database.query("CREATE TABLE totals (stream text, n int, sum int)");
  registry
      .on("Add",
          [](const Event& event) {
            const json& last = event.data;
            const int before = last.empty() ? 0 : last[0].at("sum").get<int>();
            const int n = last.empty() ? 0 : last[0].at("n").get<int>();
            return Effects{Insert{"totals",
                                  {{"stream", *event.stream},
                                   {"n", n + 1},
                                   {"sum", before + event.payload.at("v").get<int>()}}}};
          })
      .reads("SELECT n, sum FROM totals WHERE stream = event->>'stream' ORDER BY n DESC LIMIT 1");
  for (int i = 1; i <= 8; ++i) {
    insert("Add", 1, "a", i);
    insert("Add", 1, "b", 10 * i);
  }
  all_done();
  options.batch = 5;
  EXPECT_EQ(run(begin().id), Outcome::finished);
  EXPECT_EQ(database.value("SELECT string_agg(sum::text, ' ' ORDER BY n) FROM totals"
                           " WHERE stream = 'a'"),
            "1 3 6 10 15 21 28 36");
  EXPECT_EQ(database.number("SELECT max(sum) FROM totals WHERE stream = 'b'"), 360);
}

TEST_F(ReplayTest, AfterALostConnectionItGoesOnBehindTheLastCommit) {
  insert("Row", 30);
  all_done();
  options.batch = 7;
  const ReplayState begun = begin();
  int lost = 0;
  Outcome outcome = Outcome::more;
  while (outcome != Outcome::finished && lost < 20) {
    PgConnection own(database.target());
    Replay replay(own, handlers, begun.id, options);
    try {
      outcome = replay.step();
      if (outcome == Outcome::finished) break;
      database.query("SELECT pg_terminate_backend(" + std::to_string(own.backend_pid()) + ")");
      outcome = replay.step();
    } catch (const ConnectionLost&) {
      ++lost;
    }
  }
  EXPECT_EQ(outcome, Outcome::finished);
  EXPECT_GE(lost, 3);
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || count(DISTINCT event) FROM rows"), "30 30");
  EXPECT_EQ(state(begun.id).events, 30);
}

TEST_F(ReplayTest, AConnectionLostInTheMiddleOfAStepUndoesTheStep) {
  insert("Row", 9);
  insert("Kill");
  all_done();
  PgConnection own(database.target());
  registry.on("Kill", [&](const Event&) {
    database.query("SELECT pg_terminate_backend(" + std::to_string(own.backend_pid()) + ")");
    return Effects{};
  });
  options.batch = 4;
  const ReplayState begun = begin();
  Replay replay(own, handlers, begun.id, options);
  EXPECT_THROW(run(replay), ConnectionLost);
  EXPECT_EQ(rows(), "1 2 3 4 5 6 7 8");
  EXPECT_EQ(state(begun.id).next, 9);
  auto now = std::make_shared<Registry>();
  now->on("Row", registry.find("Row")->front().handler);
  handlers.replace(now);
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3 4 5 6 7 8 9");
}

TEST_F(ReplayTest, AnExceptionBehindACommitLeavesItAtThatCommit) {
  insert("Row", 3);
  all_done();
  const ReplayState begun = begin();
  options.log = [](const LogOrigin&, const Log&) { throw std::runtime_error("the disk is full"); };
  ReplayRequest request;
  request.kinds = kinds({"Insert", "Log"});
  const ReplayState with_log = begin(request);
  EXPECT_THROW(run(with_log.id), std::runtime_error);  // behind the commit
  options.log = {};
  EXPECT_EQ(run(with_log.id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3");
  EXPECT_EQ(run(begun.id), Outcome::finished);  // another replay is another time
  EXPECT_EQ(rows(), "1 2 3 1 2 3");
}

TEST_F(ReplayTest, ASecondProcessIsToldWhoHasIt) {
  insert("Row");
  all_done();
  const ReplayState begun = begin({}, "mine");
  EXPECT_FALSE(state(begun.id).running);
  {
    const ReplayGuard guard(database.target(), begun.id, "process 1 on host a");
    EXPECT_TRUE(state(begun.id).running);
    try {
      const ReplayGuard second(database.target(), begun.id, "process 2 on host b");
      FAIL() << "two processes run it";
    } catch (const ReplayHeld& error) {
      EXPECT_STREQ(error.what(), "replay \"mine\" is being run by process 1 on host a");
    }
    // It holds nothing that vacuum or anybody would have to wait for (the second one's connection
    // may take a moment to end).
    EXPECT_TRUE(eventually([&] {
      return database.value(
                 "SELECT string_agg(DISTINCT (backend_xmin IS NULL AND backend_xid IS"
                 " NULL)::text, ' ') FROM pg_stat_activity WHERE datname ="
                 " current_database() AND state = 'idle in transaction'") == "true";
    }));
    EXPECT_TRUE(state(begun.id).running);
  }
  ASSERT_TRUE(eventually([&] { return !state(begun.id).running; }));
  const ReplayGuard next(database.target(), begun.id, "process 2 on host b");
  EXPECT_EQ(state(begun.id).run_by, "process 2 on host b");
}

TEST_F(ReplayTest, TwoThatRunItAllTheSameDoNothingTwice) {
  insert("Row", 20);
  all_done();
  options.batch = 4;
  const ReplayState begun = begin();
  PgConnection other(database.target());
  Replay one(session, handlers, begun.id, options);
  Replay two(other, handlers, begun.id, options);
  EXPECT_EQ(one.step(), Outcome::more);
  try {
    two.step();
    FAIL() << "moved by two";
  } catch (const ReplayError& error) {
    EXPECT_NE(std::string(error.what()).find("somebody else runs"), std::string::npos);
  }
  EXPECT_EQ(run(one), Outcome::finished);
  EXPECT_EQ(database.value("SELECT count(*) || ' ' || count(DISTINCT event) FROM rows"), "20 20");
}

TEST_F(ReplayTest, ADryRunCountsAndFindsWhatFailsAndAppliesNothing) {
  registry.on("BadColumn", [](const Event&) { return Effects{Insert{"rows", {{"w", 1}}}}; });
  insert("Row", 3);
  insert("BadColumn");
  insert("Throw");
  insert("Row", 2);
  all_done();
  ReplayRequest request;
  request.dry_run = true;
  request.kinds = EffectKinds::all();
  const ReplayState begun = begin(request);
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(rows(), "");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.kv"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 7);
  EXPECT_TRUE(logged.empty());
  const ReplayState after = state(begun.id);
  EXPECT_EQ(after.events, 5);
  EXPECT_EQ(after.failed, 2);
  EXPECT_EQ(after.asked[effect_kind("Insert").value()], 5u);
  EXPECT_NE(after.failures.at(0).error.find("has no column \"w\""), std::string::npos);
}

TEST_F(ReplayTest, AMalformedEffectOfAKindThatIsNotWantedIsPassedOver) {
  registry.on("Mixed", [](const Event& event) {
    return Effects{SSEBroadcast{"", "x", 1}, Insert{"rows", {{"event", event.id}}},
                   Insert{"nowhere", {{"event", event.id}}}};
  });
  insert("Mixed");
  all_done();
  const ReplayState begun = begin();
  EXPECT_EQ(run(begun.id), Outcome::stopped);
  // The index is that of the handler's list, not of what is left of it.
  EXPECT_NE(state(begun.id).last_error.find("effect 2 (Insert)"), std::string::npos)
      << state(begun.id).last_error;
}

TEST_F(ReplayTest, TablesAreEmptiedAsItBegins) {
  insert("Row", 3);
  all_done();
  database.query("CREATE TABLE \"Odd name\" (a int)");
  database.query("INSERT INTO rows (event) VALUES (1), (2), (3), (99)");
  database.query("INSERT INTO \"Odd name\" VALUES (1)");
  ReplayRequest request;
  request.truncate = {"rows", "public.Odd name"};
  EXPECT_EQ(run(begin(request).id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3");
  EXPECT_EQ(database.number("SELECT count(*) FROM \"Odd name\""), 0);
  for (const char* name : {"nowhere", "spillway.events", "pg_class", "", "a.b.c"}) {
    request.truncate = {"rows", name};
    EXPECT_THROW(begin(request), std::invalid_argument) << name;
  }
  EXPECT_EQ(rows(), "1 2 3");
}

// A batch that has written to the table but not committed: the table is emptied behind its commit,
// and its event counts as done.
TEST_F(ReplayTest, WhatLiveWorkIsWritingIsEmptiedAndReplayed) {
  insert("Row", 2);
  all_done();
  insert("Row");  // 3
  PgConnection live(database.target());
  live.exec("BEGIN; DELETE FROM spillway.queue; INSERT INTO rows (event) VALUES (3)");
  ReplayRequest request;
  request.truncate = {"rows"};
  std::optional<ReplayState> begun;
  std::thread thread([&] { begun = begin(request); });
  EXPECT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation ="
               " 'rows'::regclass") == 1;
  }));
  live.exec("COMMIT");
  thread.join();
  EXPECT_EQ(run(begun->id), Outcome::finished);
  EXPECT_EQ(rows(), "1 2 3");
}

// A batch that has taken its event, but not come to the table: it writes behind the emptying.
TEST_F(ReplayTest, WhatLiveWorkIsAboutToWriteIsNotReplayed) {
  insert("Row", 2);
  all_done();
  insert("Row");  // 3
  PgConnection live(database.target());
  live.exec("BEGIN; DELETE FROM spillway.queue");
  ReplayRequest request;
  request.truncate = {"rows"};
  const ReplayState begun = begin(request);
  live.exec("INSERT INTO rows (event) VALUES (3); COMMIT");
  EXPECT_EQ(run(begun.id), Outcome::finished);
  EXPECT_EQ(rows(), "3 1 2");
}

TEST_F(ReplayTest, NamesAreUniqueAndReplaysAreListed) {
  insert("Row", 2);
  all_done();
  begin({}, "first");
  ReplayRequest request;
  request.types = {"Row"};
  request.since = "2026-01-31 11:00:00+00";
  request.include_dead = true;
  const ReplayState second = begin(request, "second");
  EXPECT_THROW(begin({}, "first"), ReplayError);
  ReplayStore store(session);
  EXPECT_FALSE(store.find("third"));
  ASSERT_TRUE(store.find("second"));
  EXPECT_EQ(store.find("second")->id, second.id);
  EXPECT_TRUE(store.find("second")->request == request);
  const auto all = store.list();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "first");
  EXPECT_EQ(all[1].name, "second");
}

}  // namespace
}  // namespace spillway
