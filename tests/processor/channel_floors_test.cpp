// Who comes for broadcasts below the floor: reset exactly when one of the client's own channels
// lost something behind its id, or when that cannot be known any more.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "effects/outbox.hpp"
#include "processor/embedded_file.hpp"
#include "processor/outbox_reader.hpp"
#include "processor/retention.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace migrations {
extern const EmbeddedFile files[];
extern const std::size_t files_count;
}  // namespace migrations

namespace {

using test::Database;
using test::eventually;
using Outcome = RetentionStore::Outcome;

class ChannelFloors : public testing::Test {
 protected:
  // One transaction; positions follow those before it.
  void tell(const std::vector<std::string>& channels) {
    Outbox outbox(session);
    session.exec("BEGIN");
    std::vector<PendingBroadcast> pending;
    for (const std::string& channel : channels) {
      PendingBroadcast broadcast;
      broadcast.channel = channel;
      broadcast.event_type = "E";
      broadcast.data_json = "1";
      pending.push_back(std::move(broadcast));
    }
    outbox.add(1, std::move(pending));
    outbox.write(false);
    session.exec("COMMIT");
    told.insert(told.end(), channels.begin(), channels.end());
  }
  // All that is there becomes a partition of its own.
  void close() {
    EXPECT_TRUE(eventually([&] {
      const Rows rows = session.exec("SELECT spillway.extend_broadcasts(1000, 'infinity')");
      return !rows.is_null(0, 0) && !rows.boolean(0, 0);
    }));
  }
  Rows note(std::int64_t most = 1'000'000) {
    return session.exec("SELECT spillway.note_channel_floors('infinity', NULL, NULL, " +
                        std::to_string(most) + ")");
  }
  // As a process drops that knows nothing of notes.
  Rows drop() { return session.exec("SELECT spillway.drop_broadcasts('infinity', NULL, NULL)"); }
  // Whether a client of the channels goes on from `after`.
  bool goes_on(const std::vector<std::string>& channels, std::uint64_t after) {
    return OutboxReader(session).read_page({channels, after, 500}).floor <= after;
  }
  long long floor() { return database.number("SELECT floor FROM spillway.stream_head"); }

  Database database;
  PgConnection session{database.target()};
  std::vector<std::string> told;  // channel of position 1, 2, …
};

TEST_F(ChannelFloors, AQuietChannelGoesOnBelowTheFloor) {
  tell({"quiet:1", "busy:1", "quiet:2", "busy:1", "busy:2"});
  close();
  tell({"busy:1"});
  ASSERT_TRUE(note().boolean(0, 0));
  EXPECT_TRUE(goes_on({"busy:1"}, 0)) << "written down, not dropped";
  ASSERT_EQ(drop().integer(0, 0), 5);
  EXPECT_TRUE(goes_on({"quiet:1"}, 1));
  EXPECT_FALSE(goes_on({"quiet:1"}, 0));
  EXPECT_TRUE(goes_on({"never:1"}, 0));
  EXPECT_FALSE(goes_on({"busy:1"}, 3));
  EXPECT_TRUE(goes_on({"busy:1"}, 4));
  EXPECT_TRUE(goes_on({"quiet:1", "busy:1"}, 4));
  EXPECT_FALSE(goes_on({"quiet:1", "busy:1"}, 3)) << "one of them lost something";
  EXPECT_TRUE(goes_on({"quiet:*"}, 3));
  EXPECT_FALSE(goes_on({"quiet:*"}, 2));
  EXPECT_FALSE(goes_on({"quiet:1", "busy:*"}, 4));
  EXPECT_TRUE(goes_on({"qui:*", "busy:1:*"}, 0)) << "a prefix ends at its colon";
}

TEST_F(ChannelFloors, WhatIsSentGoesOnBehindTheFloorAndTheResetNamesTheCommonOne) {
  tell({"a:1", "b:1", "b:1"});
  close();
  tell({"b:1", "a:1"});
  RetentionStore store(session);
  ASSERT_TRUE(note().boolean(0, 0));
  ASSERT_EQ(drop().integer(0, 0), 3);
  OutboxReader reader(session);
  const auto page = reader.read_page({{"a:1"}, 1, 500});
  EXPECT_EQ(page.floor, 1u);
  ASSERT_EQ(page.broadcasts.size(), 1u);
  EXPECT_EQ(page.broadcasts.front().position, 5u);
  EXPECT_EQ(page.upto, 5u);
  EXPECT_EQ(reader.read_page({{"b:1"}, 1, 500}).floor, 3u);
  const auto earliest = reader.read_page({{"a:1"}, std::nullopt, 500});
  EXPECT_EQ(earliest.floor, 3u) << "all that is kept begins at the common floor";
  EXPECT_EQ(earliest.broadcasts.size(), 1u);
}

TEST_F(ChannelFloors, ADropThatIsNotWrittenDownLeavesNothingToJudgeBy) {
  tell({"a:1", "b:1"});
  close();
  ASSERT_EQ(drop().integer(0, 0), 2);
  EXPECT_FALSE(goes_on({"a:1"}, 1)) << "a process of an earlier version dropped it";
  EXPECT_TRUE(goes_on({"a:1"}, 2));
  tell({"b:1", "b:1"});
  close();
  ASSERT_TRUE(note().boolean(0, 0));
  ASSERT_EQ(drop().integer(0, 0), 4);
  EXPECT_FALSE(goes_on({"a:1"}, 1));
  EXPECT_TRUE(goes_on({"a:1"}, 2)) << "from there on it is known again";
  EXPECT_FALSE(goes_on({"b:1"}, 3));
}

TEST_F(ChannelFloors, AreWrittenByWhoeverDropsAndDropGoesOnWithoutThem) {
  RetentionStore store(session);
  tell({"a:1", "b:1"});
  close();
  ASSERT_EQ(store.drop_broadcasts(std::chrono::milliseconds(-60'000), std::nullopt), Outcome::done);
  EXPECT_EQ(floor(), 2);
  EXPECT_TRUE(goes_on({"a:1"}, 1));
  tell({"b:1"});
  close();
  session.exec("ALTER TABLE spillway.channel_floors RENAME TO elsewhere");
  EXPECT_THROW(store.drop_broadcasts(std::chrono::milliseconds(-60'000), std::nullopt), SqlError)
      << "it is said";
  session.exec("ALTER TABLE spillway.elsewhere RENAME TO channel_floors");
  EXPECT_EQ(floor(), 3) << "the table does not grow for it";
  EXPECT_FALSE(goes_on({"a:1"}, 2));
  tell({"b:1"});
  close();
  ASSERT_EQ(store.drop_broadcasts(std::chrono::milliseconds(-60'000), std::nullopt, 0),
            Outcome::done);
  EXPECT_FALSE(goes_on({"a:1"}, 3)) << "switched off";
}

TEST_F(ChannelFloors, BeyondTheirNumberTheOldestGoAndCannotBeJudged) {
  std::vector<std::string> channels;
  for (int i = 1; i <= 40; ++i) channels.push_back("c:" + std::to_string(i));
  tell(channels);
  close();
  ASSERT_TRUE(note(20).boolean(0, 0));
  ASSERT_EQ(drop().integer(0, 0), 40);
  EXPECT_EQ(database.value("SELECT since || ' ' || channels FROM spillway.channel_floors_known"),
            "22 18");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.channel_floors"), 18);
  EXPECT_FALSE(goes_on({"c:1"}, 21)) << "nothing was lost, but nobody knows";
  EXPECT_TRUE(goes_on({"c:1"}, 22));
  EXPECT_TRUE(goes_on({"c:30"}, 30));
  EXPECT_FALSE(goes_on({"c:30"}, 29));
}

TEST_F(ChannelFloors, AreNotWrittenWhileSomebodyElseDrops) {
  tell({"a:1"});
  close();
  PgConnection other(database.target());
  other.exec("BEGIN");
  ASSERT_EQ(other.exec("SELECT spillway.drop_broadcasts('infinity', NULL, NULL)").integer(0, 0), 1);
  EXPECT_TRUE(note().is_null(0, 0));
  other.exec("COMMIT");
  EXPECT_FALSE(note().boolean(0, 0));
  EXPECT_FALSE(goes_on({"a:1"}, 0));
}

// Random broadcasts on random channels, random drops with and without notes, random resumes.
class ChannelFloorsModel : public ChannelFloors, public testing::WithParamInterface<unsigned> {};

TEST_P(ChannelFloorsModel, ResetIfAndOnlyIfSomethingWasLostOrCannotBeJudged) {
  std::mt19937 random(GetParam());
  const auto one_in = [&](unsigned n) { return random() % n == 0; };
  const bool crowded = GetParam() % 3 == 0;  // more channels than are noted
  const std::int64_t most = crowded ? 6 : 1'000'000;
  std::vector<std::string> channels;
  for (int i = 0; i < 12; ++i)
    channels.push_back(std::string(i % 3 == 0   ? "a:"
                                   : i % 3 == 1 ? "a:b:"
                                                : "c:") +
                       std::to_string(i));
  const std::vector<std::string> patterns = {"a:*", "a:b:*", "c:*", "d:*"};
  std::uint64_t known_from = 0;  // the model's: below it nothing can be judged …
  std::uint64_t noted = 0;       // … and up to here drops were written down
  int resets = 0, went_on = 0, unknown = 0;

  for (int step = 0; step < 120; ++step) {
    std::vector<std::string> batch;
    const std::size_t few = 1 + random() % channels.size();  // some are quiet for a while
    for (std::size_t n = 1 + random() % 8; n > 0; --n) batch.push_back(channels[random() % few]);
    tell(batch);
    if (one_in(4)) close();
    if (one_in(3)) {
      const auto oldest = database.number(
          "SELECT coalesce(min(p.last), 0) FROM spillway.broadcast_partitions p, "
          "spillway.stream_head h"
          " WHERE p.last <= h.last");
      const Rows answer = note(most);
      if (!answer.is_null(0, 0) && answer.boolean(0, 0)) {
        const auto floor_now = static_cast<std::uint64_t>(floor());
        if (noted < floor_now) known_from = floor_now;
        noted = static_cast<std::uint64_t>(oldest);
      }
    }
    if (one_in(3)) {
      const Rows answer = drop();
      if (!answer.is_null(0, 0) && answer.integer<std::uint64_t>(0, 0) > noted)
        known_from = answer.integer<std::uint64_t>(0, 0);
    }
    if (crowded) {
      const auto since = static_cast<std::uint64_t>(
          database.number("SELECT since FROM spillway.channel_floors_known"));
      known_from = std::max(known_from, since);
      ASSERT_LE(database.number("SELECT channels FROM spillway.channel_floors_known"), most);
    }
    ASSERT_EQ(database.number("SELECT channels FROM spillway.channel_floors_known"),
              database.number("SELECT count(*) FROM spillway.channel_floors"));

    const auto floor_now = static_cast<std::uint64_t>(floor());
    for (int resume = 0; resume < 6; ++resume) {
      std::vector<std::string> wanted;
      for (std::size_t n = 1 + random() % 3; n > 0; --n)
        wanted.push_back(one_in(4) ? patterns[random() % patterns.size()]
                                   : channels[random() % channels.size()]);
      std::sort(wanted.begin(), wanted.end());
      wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
      const std::uint64_t after =
          one_in(2) && floor_now > 0 ? random() % floor_now : random() % (told.size() + 1);
      const auto carries = [&](const std::string& channel) {
        return std::any_of(wanted.begin(), wanted.end(), [&](const std::string& name) {
          return name.ends_with(":*") ? channel.starts_with(name.substr(0, name.size() - 1))
                                      : name == channel;
        });
      };
      bool lost = false;
      std::vector<std::uint64_t> expected;
      for (std::uint64_t position = after + 1; position <= told.size(); ++position) {
        if (!carries(told[position - 1])) continue;
        if (position <= floor_now)
          lost = true;
        else
          expected.push_back(position);
      }
      const auto page = OutboxReader(session).read_page({wanted, after, 5000});
      const bool judged = after >= known_from || after >= floor_now;
      ASSERT_EQ(page.floor <= after, judged && !lost)
          << "seed " << GetParam() << " step " << step << " after " << after << " floor "
          << floor_now << " known from " << known_from << (lost ? " lost" : " not lost");
      if (page.floor > after) {
        ASSERT_EQ(page.floor, floor_now);
        ++(lost ? resets : unknown);
        continue;
      }
      std::vector<std::uint64_t> positions;
      for (const auto& broadcast : page.broadcasts) positions.push_back(broadcast.position);
      ASSERT_EQ(positions, expected);
      if (after < floor_now) ++went_on;
    }
  }
  EXPECT_GT(resets, 20);
  EXPECT_GT(went_on, crowded ? 0 : 5);
  EXPECT_GT(unknown, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ChannelFloorsModel, testing::Range(1u, 7u));

// A client's page and the drop it races with, notes included.
TEST_F(ChannelFloors, HoldWhileBroadcastsAreWrittenDroppedAndResumedAtOnce) {
  std::atomic<bool> stop{false};
  std::atomic<int> problems{0};
  tell(std::vector<std::string>(50, "quiet:1"));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&] {
        PgConnection connection(database.target());
        RetentionStore keep(connection);
        while (!stop) {
          keep.extend_broadcasts(100, std::nullopt);
          static_cast<void>(connection.exec(
              "SELECT spillway.note_channel_floors(NULL, 300, 'infinity', 1000000)"));
          const Rows noted = connection.exec(
              "SELECT spillway.drop_broadcasts(NULL, 300, 'infinity') FROM "
              "spillway.channel_floors_known"
              " WHERE upto > (SELECT floor FROM spillway.stream_head)");
        }
      });
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&] {
        PgConnection connection(database.target());
        OutboxReader reader(connection);
        std::uint64_t after = 50;
        while (!stop) {
          // Every position is busy's, once quiet has said all it had to say.
          if (reader.read_page({{"quiet:1"}, 50, 10}).floor > 50) ++problems;
          const auto page = reader.read_page({{"busy:1"}, after, 70});
          after = std::max(after, page.floor);
          if (page.floor > after) ++problems;
          for (const auto& broadcast : page.broadcasts)
            if (broadcast.position != ++after) ++problems;
        }
      });
    for (int round = 0; round < 150; ++round) tell(std::vector<std::string>(50, "busy:1"));
    // Readers that never pause leave little room between them for whoever drops.
    EXPECT_TRUE(eventually([&] { return floor() > 1000; })) << floor();
    stop = true;
  }
  EXPECT_EQ(problems, 0);
  EXPECT_EQ(database.number("SELECT since FROM spillway.channel_floors_known"), 0)
      << "each drop was written down before";
}

// What was dropped before the migration is not known; what is dropped behind it is.
TEST(ChannelFloorsMigration, TakesTheFloorAsItFindsItAndGivesRightsToWhoHadThem) {
  Database database(false);
  PgConnection session(database.target());
  session.exec("CREATE SCHEMA spillway");
  const auto apply = [&](int first, int last) {
    for (std::size_t i = 0; i < migrations::files_count; ++i) {
      const int version = std::stoi(std::string(migrations::files[i].name.substr(0, 4)));
      if (version < first || version > last) continue;
      session.exec("BEGIN");
      session.exec(std::string(migrations::files[i].text));
      session.exec("COMMIT");
    }
  };
  apply(1, 16);
  session.exec(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'stream_keeper') THEN"
      " CREATE ROLE stream_keeper; END IF; END$$;"
      "GRANT SELECT ON spillway.stream_head, spillway.broadcasts TO stream_keeper;"
      "GRANT EXECUTE ON FUNCTION spillway.drop_broadcasts(timestamptz, bigint, timestamptz) TO "
      "stream_keeper;"
      "UPDATE spillway.stream_head SET last = 70, floor = 40");
  apply(18, 18);
  OutboxReader reader(session);
  EXPECT_EQ(reader.read_page({{"a:1"}, 39, 10}).floor, 40u);
  EXPECT_EQ(reader.read_page({{"a:1"}, 40, 10}).floor, 40u);
  session.exec(
      "UPDATE spillway.stream_head SET floor = 60; UPDATE spillway.channel_floors_known SET upto = "
      "60");
  EXPECT_EQ(reader.read_page({{"a:1"}, 39, 10}).floor, 60u);
  EXPECT_EQ(reader.read_page({{"a:1"}, 40, 10}).floor, 40u);
  EXPECT_EQ(
      database.value(
          "SELECT has_function_privilege('stream_keeper', "
          "'spillway.note_channel_floors(timestamptz, "
          "bigint, timestamptz, bigint)', 'EXECUTE')"
          " AND has_table_privilege('stream_keeper', 'spillway.channel_floors', 'SELECT')"
          " AND has_table_privilege('stream_keeper', 'spillway.channel_floors_known', 'SELECT')"
          " AND NOT has_table_privilege('stream_keeper', 'spillway.channel_floors', 'INSERT')"),
      "t");
  session.exec("DROP OWNED BY stream_keeper; DROP ROLE stream_keeper");
}

}  // namespace
}  // namespace spillway
