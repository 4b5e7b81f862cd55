#include "processor/batch.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "processor/migrator.hpp"
#include "processor/segments.hpp"
#include "tests/support/database.hpp"

namespace spillway {
namespace {

using test::Database;

class BatchTest : public testing::Test {
 protected:
  BatchTest() {
    database.query("CREATE TABLE rows (n serial, event bigint, v int CHECK (v <> 13))");
    registry.on("Row", [](const Event& event) {
      return Effects{Insert{"rows", {{"event", event.id}, {"v", event.payload.value("v", 0)}}},
                     SSEBroadcast{"rows", "Row", event.id}};
    });
    registry.on("Throw", [](const Event&) -> Effects { throw std::runtime_error("no \xff luck"); });
    registry.on("ThrowTwice", [](const Event& event) {
      if (event.attempt < 3) throw std::runtime_error("attempt " + std::to_string(event.attempt));
      return Effects{Insert{"rows", {{"event", event.id}}}};
    });
    registry.on("BadColumn", [](const Event&) { return Effects{Insert{"rows", {{"w", 1}}}}; });
    registry.on("BadValue", [](const Event&) {
      return Effects{SSEBroadcast{"x", "x", 1}, Insert{"rows", {{"v", "abc"}}}};
    });
    options.retry.max_attempts = 3;
    options.retry.base = std::chrono::milliseconds(0);
    sinks.broadcast = [this](const sse::BroadcastBatch& batch) { broadcasts.push_back(batch); };
  }

  void insert(const std::string& type, const std::string& stream = "", int v = 0) {
    database.query("INSERT INTO spillway.events (type, stream, payload) VALUES ('" + type +
                   "', nullif('" + stream + "', ''), '{\"v\":" + std::to_string(v) + "}')");
  }

  // Batches until nothing is left that could be done now, as a runner would do them.
  int drain(std::size_t limit = 100) {
    std::vector<int> lanes(lane_count);
    std::iota(lanes.begin(), lanes.end(), 0);
    bool careful = false;
    int batches = 0;
    for (; batches < 1000; ++batches) {
      const BatchResult result = batch().run(lanes, lane_count, limit, careful);
      careful = result.outcome == BatchResult::Outcome::careful_next;
      if (careful && batches > 20) limit = std::max<std::size_t>(1, limit / 2);
      if (result.outcome == BatchResult::Outcome::committed && result.taken == 0) break;
    }
    return batches;
  }

  Batch& batch() {
    if (!batch_) batch_ = std::make_unique<Batch>(session, handlers, marks, options, sinks, 1);
    return *batch_;
  }

  std::string statuses() {
    return database.value(
        "SELECT string_agg(status, ' ' ORDER BY event_id) FROM spillway.event_status");
  }

  Database database;
  PgConnection session{database.target()};
  std::shared_ptr<Registry> registry_owner = std::make_shared<Registry>();
  Registry& registry = *registry_owner;
  HandlerSet handlers{registry_owner};
  LaneMarks marks{lane_count};
  BatchOptions options;
  BatchSinks sinks;
  std::vector<sse::BroadcastBatch> broadcasts;

 private:
  std::unique_ptr<Batch> batch_;
};

TEST_F(BatchTest, EffectsCompletionAndBroadcastsCommitTogether) {
  insert("Row");
  insert("Row");
  drain();
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 2);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.queue"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 2);
  EXPECT_EQ(statuses(), "done done");
  ASSERT_EQ(broadcasts.size(), 1u);
  EXPECT_EQ(broadcasts[0].base_position, 0u);
  EXPECT_EQ(broadcasts[0].broadcasts.size(), 2u);
  EXPECT_EQ(broadcasts[0].broadcasts[1].position, 2u);
}

TEST_F(BatchTest, WhatIsVisibleTogetherRunsInIdOrder) {
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'Row', 's' || (g % 20) FROM "
      "generate_series(1, 500) g");
  drain(1000);
  EXPECT_EQ(database.number(
                "SELECT count(*) FROM rows r JOIN rows l ON l.n = r.n - 1 WHERE l.event > r.event"),
            0);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 500);
}

TEST_F(BatchTest, AnEventWithoutAHandlerIsDoneUnlessRefused) {
  insert("Nobody");
  drain();
  EXPECT_EQ(statuses(), "done");
}

TEST_F(BatchTest, AnEventWithoutAHandlerIsDeadWhenRefused) {
  options.unhandled_is_dead = true;
  insert("Nobody");
  drain();
  EXPECT_EQ(statuses(), "dead");
  EXPECT_EQ(database.value("SELECT error FROM spillway.dead_letters"),
            "event 1 (Nobody): there is no handler for type \"Nobody\"");
}

TEST_F(BatchTest, TwoHandlersOfOneTypeBothRunInTheOrderGiven) {
  registry.on("Twice", [](const Event&) {
    return Result{{SSEBroadcast{"first", "A", 1}}, {{"from", "first"}}};
  });
  registry.on("Twice", [](const Event&) {
    return Result{{SSEBroadcast{"second", "B", 2}}, {{"from", "second"}}};
  });
  insert("Twice");
  drain();
  EXPECT_EQ(database.value("SELECT string_agg(channel, ' ' ORDER BY position) FROM "
                           "spillway.broadcasts"),
            "first second");
  EXPECT_EQ(database.value("SELECT response->>'from' FROM spillway.results"), "second");
}

TEST_F(BatchTest, TheStarHandlesEveryTypeAfterItsOwnHandlers) {
  registry.on("*", [](const Event& event) {
    return Effects{SSEBroadcast{"all", event.type, nullptr}};
  });
  insert("Row");
  insert("Nobody");
  drain();
  EXPECT_EQ(database.value("SELECT string_agg(channel || ':' || event_type, ' ' ORDER BY position) "
                           "FROM spillway.broadcasts"),
            "rows:Row all:Row all:Nobody");
}

TEST_F(BatchTest, ErrorsThatNoRetryCanMendAreDeadAtOnceWithTheirMessage) {
  for (int i = 0; i < 30; ++i) insert("Row");
  insert("BadColumn");
  for (int i = 0; i < 30; ++i) insert("Row");
  insert("BadValue");
  for (int i = 0; i < 30; ++i) insert("Row");
  drain(1000);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 90);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"), 90);
  EXPECT_EQ(database.value("SELECT string_agg(concat_ws('|', error, sqlstate, attempts), E'\\n' "
                           "ORDER BY event_id) FROM spillway.dead_letters"),
            "event 31 (BadColumn): effect 0 (Insert), field \"data\": table \"rows\" has no column "
            "\"w\"; it has event, n, v|1\n"
            "event 62 (BadValue): effect 1 (Insert into rows): invalid input syntax for type "
            "integer: \"abc\"|22P02|1");
}

// What payloads bring along: each a dead letter with its exact message, and its neighbours done.
TEST_F(BatchTest, EveryWrongEffectSaysWhatIsWrong) {
  database.query("CREATE TABLE wide (b bigint, t text, j jsonb)");
  const std::vector<std::pair<Effects, std::string>> wrong{
      {{Insert{"nothere", {{"a", 1}}}},
       "effect 0 (Insert), field \"table\": there is no table \"nothere\"|"},
      {{Insert{"wide", {{"\"; drop table wide; --", 1}}}},
       "effect 0 (Insert), field \"data\": table \"wide\" has no column \"\"; drop table wide; "
       "--\"; it has b, j, t|"},
      {{Insert{"wide", {{"b", "x"}}}},
       "effect 0 (Insert into wide): invalid input syntax for type bigint: \"x\"|22P02"},
      {{Insert{"wide", {{"b", 1e30}}}},
       "effect 0 (Insert into wide): value \"1000000000000000000000000000000\" is out of range for "
       "type bigint|22003"},
      {{Insert{"wide", {{"b", 18446744073709551615u}}}},
       "effect 0 (Insert into wide): value \"18446744073709551615\" is out of range for type "
       "bigint|22003"},
      {{KVSet{"k", 1}, Insert{"wide", {{"t", std::string("a\0b", 3)}}}},
       "effect 1 (Insert into wide): unsupported Unicode escape sequence; \\u0000 cannot be "
       "converted to text.|22P05"},
      {{Insert{"wide", {{"t", "\xc3"}}}},
       "effect 0 (Insert), field \"data\": contains text that is not valid UTF-8|"},
      {{Delete{"wide", json::object()}},
       "effect 0 (Delete), field \"where\": is empty; name at least one column|"},
      {{Update{"pg_catalog.pg_class", {{"relname", "x"}}, {{"relname", "wide"}}}},
       "effect 0 (Update), field \"table\": \"pg_catalog.pg_class\" names schema \"pg_catalog\", "
       "which no effect may write to|"},
      {{Delete{"spillway.queue", {{"lane", 1}}}},
       "effect 0 (Delete), field \"table\": \"spillway.queue\" names schema \"spillway\", which no "
       "effect may write to|"},
      {{Upsert{"wide", {{"b", 1}}, {"b"}}},
       "effect 0 (Upsert into wide): there is no unique or exclusion constraint matching the ON "
       "CONFLICT specification|42P10"},
  };
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    registry.on("Wrong" + std::to_string(i),
                [effects = wrong[i].first](const Event&) { return effects; });
    insert("Row");
    insert("Wrong" + std::to_string(i));
  }
  drain(1000);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), static_cast<long long>(wrong.size()));
  EXPECT_EQ(database.number("SELECT count(*) FROM wide"), 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.kv"), 0);
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const auto event = std::to_string(2 * i + 2);
    EXPECT_EQ(database.value("SELECT error || '|' || coalesce(sqlstate, '') FROM "
                             "spillway.dead_letters WHERE event_id = " +
                             event),
              "event " + event + " (Wrong" + std::to_string(i) + "): " + wrong[i].second);
  }
}

TEST_F(BatchTest, ATenMegabytePayloadIsOnlyLarge) {
  database.query("CREATE TABLE large (j jsonb)");
  registry.on("Large", [](const Event& event) {
    return Effects{Insert{"large", {{"j", event.payload}}},
                   SSEBroadcast{"large", "Large", event.payload}};
  });
  database.query(
      "INSERT INTO spillway.events (type, payload) VALUES ('Large', jsonb_build_object('x', "
      "repeat('é', 5000000)))");
  insert("Row");
  drain();
  EXPECT_EQ(statuses(), "done done");
  EXPECT_EQ(database.number("SELECT length(j->>'x') FROM large"), 5000000);
}

TEST_F(BatchTest, OtherErrorsAreTriedAgainUpToTheAttempts) {
  insert("Row", "", 13);
  insert("Throw");
  insert("ThrowTwice");
  insert("Row");
  drain();
  EXPECT_EQ(statuses(), "dead dead done done");
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 2);
  EXPECT_EQ(
      database.value("SELECT sqlstate || attempts FROM spillway.dead_letters WHERE event_id = 1"),
      "235143");
  EXPECT_NE(database.value("SELECT error FROM spillway.dead_letters WHERE event_id = 1")
                .find("violates check constraint \"rows_v_check\""),
            std::string::npos);
  EXPECT_EQ(
      database.value("SELECT error || attempts FROM spillway.dead_letters WHERE event_id = 2"),
      "event 2 (Throw): the handler threw: no \xef\xbf\xbd luck3");
}

TEST_F(BatchTest, TheEventsOwnMaxAttemptsWins) {
  database.query(
      "INSERT INTO spillway.events (type, max_attempts) VALUES ('Throw', 1), ('Throw', 2)");
  drain();
  EXPECT_EQ(
      database.value(
          "SELECT string_agg(attempts::text, ' ' ORDER BY event_id) FROM spillway.dead_letters"),
      "1 2");
}

TEST_F(BatchTest, ARetryingEventHoldsBackItsOwnStreamOnly) {
  options.retry.base = std::chrono::hours(2);
  insert("Row", "s");
  insert("Throw", "s");
  insert("Row", "s");
  insert("Row", "t");
  drain();
  insert("Row", "s");
  insert("Row", "t");
  drain();
  EXPECT_EQ(statuses(), "done retrying pending done pending done");
  EXPECT_EQ(database.value("SELECT string_agg(event::text, ' ' ORDER BY n) FROM rows"), "1 4 6");
  // It dies: the stream goes on, in order.
  database.query("UPDATE spillway.waiting SET due_at = now(), attempts = 2 WHERE event_id = 2");
  drain();
  EXPECT_EQ(statuses(), "done dead done done done done");
  EXPECT_EQ(database.value("SELECT string_agg(event::text, ' ' ORDER BY n) FROM rows"),
            "1 4 6 3 5");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.waiting"), 0);
}

TEST_F(BatchTest, AFailureInTheDatabaseHoldsBackItsStreamToo) {
  options.retry.base = std::chrono::hours(2);
  insert("Row", "s", 13);
  insert("Row", "s");
  insert("Row", "t");
  drain();
  EXPECT_EQ(statuses(), "retrying pending done");
}

TEST_F(BatchTest, AStreamThatWaitsLongIsCaughtUpInPortions) {
  options.retry.base = std::chrono::hours(2);
  insert("Throw", "s");
  drain();
  database.query(
      "INSERT INTO spillway.events (type, stream) SELECT 'Row', 's' FROM generate_series(1, 50)");
  drain(7);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.waiting"), 51);
  database.query("UPDATE spillway.waiting SET due_at = now(), attempts = 2 WHERE event_id = 1");
  drain(7);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 50);
  EXPECT_EQ(database.number(
                "SELECT count(*) FROM rows r JOIN rows l ON l.n = r.n - 1 WHERE l.event > r.event"),
            0);
}

TEST_F(BatchTest, AConstraintThatIsCheckedAtCommitIsPinnedOnItsEvent) {
  database.query(
      "CREATE TABLE parents (id int PRIMARY KEY);"
      "CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)");
  registry.on("Family",
              [](const Event& event) {  // the child first: only a deferred check allows that
                Effects effects{Insert{"children", {{"parent", event.id}}}};
                if (event.payload.value("v", 0) == 0)
                  effects.push_back(Insert{"parents", {{"id", event.id}}});
                return effects;
              });
  for (int i = 0; i < 10; ++i) insert("Family");
  insert("Family", "", 1);
  for (int i = 0; i < 10; ++i) insert("Family");
  drain(1000);
  EXPECT_EQ(database.number("SELECT count(*) FROM children"), 20);
  EXPECT_EQ(database.value("SELECT event_id || ' ' || sqlstate FROM spillway.dead_letters"),
            "11 23503");
}

TEST_F(BatchTest, WhatOnlyTheOutboxRefusesIsPinnedOnItsEvent) {
  registry.on("Deep", [](const Event&) {  // deeper than this server's limit for json
    json deep = 1;
    for (int i = 0; i < 900; ++i) deep = json::array({std::move(deep)});
    return Effects{SSEBroadcast{"deep", "Deep", deep}};
  });
  for (int i = 0; i < 5; ++i) insert("Row", "s");
  insert("Deep", "s");
  for (int i = 0; i < 5; ++i) insert("Row", "s");
  session.exec("SET max_stack_depth = '100kB'");
  drain(16);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 10);
  EXPECT_EQ(database.value("SELECT event_id || ' ' || sqlstate FROM spillway.dead_letters"),
            "6 54001");
}

TEST_F(BatchTest, ASchemaThatChangesUnderTheWorkerIsNoticed) {
  insert("Row");
  drain();
  database.query("ALTER TABLE rows RENAME COLUMN v TO was_v; ALTER TABLE rows ADD COLUMN v bigint");
  insert("Row", "", 5);
  drain();
  EXPECT_EQ(database.number("SELECT v FROM rows WHERE event = 2"), 5);
  database.query("ALTER TABLE rows DROP COLUMN v");
  insert("Row");
  insert("Nobody");
  drain();
  EXPECT_EQ(statuses(), "done done dead done");
}

TEST_F(BatchTest, AnEventThatReadsSeesEveryEffectOfEarlierEventsOfItsStream) {
  registry
      .on("Sum",
          [](const Event& event) {
            return Result{{Insert{"rows", {{"event", event.id}, {"v", event.data.size()}}}},
                          {{"seen", event.data}}};
          })
      .reads(
          "SELECT r.v FROM (SELECT v, n FROM rows) r WHERE r.v >= (event->'payload'->>'v')::int "
          "ORDER BY r.n");
  for (int i = 1; i <= 3; ++i) insert("Row", "s", i);
  insert("Sum", "s", 2);
  insert("Row", "s", 7);
  insert("Sum", "s", 2);
  drain(1000);
  EXPECT_EQ(database.value("SELECT string_agg(event || ':' || v, ' ' ORDER BY n) FROM rows"),
            "1:1 2:2 3:3 4:2 5:7 6:4");
  EXPECT_EQ(database.value("SELECT response FROM spillway.results WHERE event_id = 6"),
            "{\"seen\": [{\"v\": 2}, {\"v\": 3}, {\"v\": 2}, {\"v\": 7}]}");
}

TEST_F(BatchTest, AReadThatFailsIsItsEventsFault) {
  registry
      .on("Read",
          [](const Event& event) {
            return Effects{Insert{"rows", {{"event", event.id}, {"v", event.data.at(0).at("v")}}}};
          })
      .reads("SELECT (event->'payload'->>'text')::int AS v");
  registry.set_origin("x.sql");
  database.query(
      "INSERT INTO spillway.events (type, payload) SELECT 'Read', jsonb_build_object('text', CASE "
      "g WHEN 5 THEN 'abc' ELSE g::text END)"
      " FROM generate_series(1, 9) g");
  drain(1000);
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 8);
  EXPECT_EQ(database.value("SELECT event_id || sqlstate FROM spillway.dead_letters"), "522P02");
}

TEST_F(BatchTest, AnErrorInsteadOfEffectsFailsTheEvent) {
  registry.on("Refuse", [](const Event&) {
    Result result{Insert{"rows", {{"v", 1}}}};
    result.error = "not today";
    return result;
  });
  insert("Refuse");
  drain();
  EXPECT_EQ(database.number("SELECT count(*) FROM rows"), 0);
  EXPECT_EQ(database.value("SELECT error || attempts FROM spillway.dead_letters"),
            "event 1 (Refuse): the handler threw: not today3");
}

TEST(DeclaredReadsTest, OnlyOneSelectIsTaken) {
  Database database;
  PgConnection session(database.target());
  DeclaredReads reads(session);
  EXPECT_NO_THROW(reads.check("SELECT 1 AS one WHERE event ? 'id' -- fine\n;\n"));
  EXPECT_NO_THROW(reads.check("WITH x AS (SELECT 1) SELECT * FROM x"));
  for (const char* wrong :
       {"SELECT 1; SELECT 2", "DELETE FROM spillway.queue RETURNING 1", "SELECT nothing",
        "WITH x AS (DELETE FROM spillway.queue RETURNING 1) SELECT * FROM x", ""})
    EXPECT_THROW(reads.check(wrong), SqlError) << wrong;
}

TEST(Segments, AreCutOnlyWhereAReaderFollowsItsOwnStream) {
  using Cuts = std::vector<std::pair<std::size_t, std::size_t>>;
  const auto plain = [](const char* stream) { return SegmentInput{stream, false}; };
  const auto reads = [](const char* stream) { return SegmentInput{stream, true}; };
  EXPECT_EQ(segments_of({}), Cuts{});
  EXPECT_EQ(segments_of({plain("a"), plain("a"), reads("b")}), (Cuts{{0, 3}}));
  EXPECT_EQ(segments_of({plain("a"), reads("a")}), (Cuts{{0, 1}, {1, 2}}));
  EXPECT_EQ(segments_of({reads("a"), reads("b"), reads("a"), reads("b")}), (Cuts{{0, 2}, {2, 4}}));
  EXPECT_EQ(segments_of({SegmentInput{std::nullopt, true}, SegmentInput{std::nullopt, true}}),
            (Cuts{{0, 2}}));
}

TEST_F(BatchTest, SerializationTroubleIsTriedAgainAndCountsNothing) {
  database.query(
      "CREATE TABLE troubled (k int);"
      "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS"
      " $$BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END$$;"
      "CREATE TRIGGER t BEFORE INSERT ON troubled FOR EACH ROW EXECUTE FUNCTION trouble()");
  registry.on("Troubled", [](const Event&) { return Effects{Insert{"troubled", {{"k", 1}}}}; });
  insert("Troubled");
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  EXPECT_EQ(batch().run(lanes, lane_count, 10, false).outcome, BatchResult::Outcome::again);
  EXPECT_EQ(batch().run(lanes, lane_count, 10, false).outcome, BatchResult::Outcome::again);
  database.query("DROP TRIGGER t ON troubled");
  EXPECT_EQ(batch().run(lanes, lane_count, 10, false).done, 1u);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
}

TEST_F(BatchTest, AnEventThatWaitsForAForeignLockGoesLaterAndNeverDies) {
  database.query("CREATE TABLE locked (k int PRIMARY KEY)");
  registry.on("Locked", [](const Event&) { return Effects{Insert{"locked", {{"k", 1}}}}; });
  PgConnection blocker(database.target());
  blocker.exec("BEGIN; INSERT INTO locked VALUES (1)");
  session.exec("SET lock_timeout = '200ms'");
  options.lock_timeout = std::chrono::milliseconds(200);
  insert("Row");
  insert("Locked", "s");
  insert("Row", "s");
  insert("Row");
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  const auto run = [&](bool careful) { return batch().run(lanes, lane_count, 10, careful); };
  EXPECT_EQ(run(false).outcome, BatchResult::Outcome::careful_next);
  EXPECT_EQ(run(true).done, 2u);
  EXPECT_EQ(statuses(), "done retrying pending done");
  for (int attempt = 2; attempt <= options.retry.max_attempts + 2; ++attempt) {
    if (attempt > 2) {
      EXPECT_EQ(run(false).taken, 0u) << "the queue's turn";
    }
    EXPECT_EQ(run(false).outcome, BatchResult::Outcome::careful_next);
    EXPECT_EQ(run(true).retried, 1u);
    EXPECT_EQ(database.number("SELECT attempts FROM spillway.event_status WHERE event_id = 2"),
              attempt);
  }
  blocker.exec("ROLLBACK");
  EXPECT_EQ(run(false).taken, 0u) << "the queue's turn";
  EXPECT_EQ(run(false).done, 2u);
  EXPECT_EQ(statuses(), "done done done done");
}

TEST_F(BatchTest, ManyThatWaitForOneLockTakeNoLongerThanTheBatchMay) {
  database.query("CREATE TABLE locked (k int)");
  registry.on("Locked", [](const Event&) { return Effects{Insert{"locked", {{"k", 1}}}}; });
  PgConnection blocker(database.target());
  blocker.exec("BEGIN; LOCK TABLE locked");
  options.lock_timeout = std::chrono::milliseconds(20);
  options.batch_timeout = std::chrono::milliseconds(60);
  session.exec("SET lock_timeout = 20");
  for (int i = 0; i < 60; ++i) insert("Locked");
  // Too many for one batch; half as many, and half of that, come to an end.
  std::vector<int> lanes(lane_count);
  std::iota(lanes.begin(), lanes.end(), 0);
  bool careful = false;
  std::size_t limit = 64;
  std::size_t retried = 0;
  for (int batches = 0; retried == 0 && batches < 20; ++batches) {
    const BatchResult result = batch().run(lanes, lane_count, limit, careful);
    careful = result.outcome == BatchResult::Outcome::careful_next;
    if (careful && batches > 0) limit = std::max<std::size_t>(1, limit / 2);
    retried += result.retried;
  }
  EXPECT_GT(retried, 0u);
  EXPECT_LT(limit, 64u) << "the whole went through at once";
  blocker.exec("ROLLBACK");
  drain();
  EXPECT_EQ(database.number("SELECT count(*) FROM locked"), 60);
}

TEST_F(BatchTest, ANewerSchemaIsNotWorkedOn) {
  insert("Row");
  database.query(
      "INSERT INTO spillway.migrations (version, name) VALUES (9999, 'from the future')");
  std::vector<int> lanes{0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_THROW(batch().run(lanes, lane_count, 10, false), SchemaVersionError);
  EXPECT_EQ(statuses(), "pending");
  EXPECT_EQ(database.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0);
}

TEST_F(BatchTest, AnOutageIsNobodysFault) {
  insert("Row");
  database.query("SELECT pg_terminate_backend(" + std::to_string(session.backend_pid()) + ")");
  std::vector<int> lanes{0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_THROW(batch().run(lanes, lane_count, 10, false), ConnectionLost);
  EXPECT_EQ(statuses(), "pending");
}

TEST_F(BatchTest, WebhooksAreAnnouncedOnceTheyAreThereToBeSent) {
  registry.on("Hook", [](const Event& event) {
    if (event.payload.value("v", 0) == 1) throw std::runtime_error("no");
    return Effects{TriggerWebhook{"https://a.example/", event.payload}};
  });
  int announced = 0;
  sinks.webhooks = [&] {
    ++announced;
    EXPECT_EQ(database.number("SELECT count(*) FROM spillway.webhooks"), 2);
  };
  insert("Row");
  insert("Hook", "", 1);  // fails, so there is none
  drain();
  EXPECT_EQ(announced, 0);
  insert("Hook");
  insert("Hook");
  drain();
  EXPECT_EQ(announced, 1);
}

}  // namespace
}  // namespace spillway
