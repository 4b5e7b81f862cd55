// The newest broadcast of each latest channel: read, and kept when its partition goes.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "processor/maintenance.hpp"
#include "processor/outbox_reader.hpp"
#include "processor/retention.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;
using test::eventually;
using Outcome = RetentionStore::Outcome;

class LatestBroadcasts : public testing::Test {
 protected:
  void tell(const std::vector<std::string>& channels) {
    for (const std::string& channel : channels) {
      told.push_back(channel);
      session.exec(
          "INSERT INTO spillway.broadcasts (position, channel, event_type, data) VALUES (" +
          std::to_string(told.size()) + ", " + test::sql_quoted(channel) + ", 'E', '\"" +
          std::to_string(told.size()) + "\"')");
    }
    session.exec("UPDATE spillway.stream_head SET last = " + std::to_string(told.size()));
  }
  void name(const std::vector<std::string>& patterns) {
    for (MaintenanceTask& task : stream_upkeep(patterns))
      if (task.name == "naming the latest channels") task.run(session);
  }
  // All that is there, in a partition of its own.
  void drop() {
    session.exec("UPDATE spillway.broadcasts SET created_at = now() - interval '1 hour'");
    EXPECT_TRUE(eventually([&] {
      const Rows rows = session.exec("SELECT spillway.extend_broadcasts(1000, 'infinity')");
      return !rows.is_null(0, 0) && !rows.boolean(0, 0);
    }));
    EXPECT_EQ(RetentionStore(session).drop_broadcasts(std::chrono::minutes(1), std::nullopt),
              Outcome::done);
    EXPECT_EQ(session.exec("SELECT count(*) FROM spillway.broadcasts").integer(0, 0), 0);
  }
  std::string read(const std::vector<std::string>& channels, std::uint64_t upto = 1000,
                   std::size_t limit = 1000) {
    const auto page = OutboxReader(session).read_latest({channels, upto, limit});
    std::string text;
    for (const auto& broadcast : page.broadcasts) {
      EXPECT_EQ(broadcast.data, std::to_string(broadcast.position));
      EXPECT_EQ(broadcast.channel, told[broadcast.position - 1]);
      text += broadcast.channel + "@" + std::to_string(broadcast.position) + " ";
    }
    return text + (page.complete ? "all" : "some");
  }

  Database database;
  PgConnection session{database.target()};
  std::vector<std::string> told;
};

TEST_F(LatestBroadcasts, AreTheNewestOfEachChannelAskedFor) {
  tell({"M:x", "M:y", "N:1", "M:x", "M", "M:", "MM:x"});
  EXPECT_EQ(read({"M:x", "N:1", "nobody"}), "M:x@4 N:1@3 all");
  EXPECT_EQ(read({"M:x"}, 3), "M:x@1 all") << "not newer than asked";
  EXPECT_EQ(read({"M:*"}), "M:@6 M:x@4 M:y@2 all");
  EXPECT_EQ(read({"M:*", "M:x", "N:*"}, 3), "M:x@1 M:y@2 N:1@3 all");
  EXPECT_EQ(read({"M:*"}, 1000, 2), "M:@6 M:x@4 some");
  EXPECT_EQ(read({"Q:*"}), "all");
}

TEST_F(LatestBroadcasts, OutliveTheirPartition) {
  name({"M:*", "solo"});
  tell({"M:x", "M:y", "other:1", "solo", "M:x", "M"});
  drop();
  EXPECT_EQ(read({"M:*", "solo", "other:1"}), "M:x@5 M:y@2 solo@4 all");
  tell({"M:y", "other:1"});
  EXPECT_EQ(read({"M:*"}), "M:x@5 M:y@7 all");
  drop();
  EXPECT_EQ(read({"M:*", "solo"}), "M:x@5 M:y@7 solo@4 all");
  EXPECT_EQ(session.exec("SELECT count(*) FROM spillway.latest_broadcasts").integer(0, 0), 3);
}

TEST_F(LatestBroadcasts, ThatNobodyNamesAnyMoreAreForgotten) {
  name({"M:*", "N:*"});
  tell({"M:x", "N:1"});
  drop();
  session.exec("UPDATE spillway.latest_channels SET seen_at = now() - interval '31 days'");
  name({"N:*"});
  tell({"M:x", "N:2"});
  drop();
  EXPECT_EQ(read({"M:*", "N:*"}), "N:1@2 N:2@4 all");
  EXPECT_EQ(
      session.exec("SELECT string_agg(pattern, ' ') FROM spillway.latest_channels").string(0, 0),
      "N:*");
}

TEST_F(LatestBroadcasts, AreBoundedTheLatestStay) {
  name({"*"});
  tell({"a", "b", "c", "a", "d"});
  session.exec("SELECT spillway.extend_broadcasts(1000, 'infinity')");
  EXPECT_TRUE(session.exec("SELECT spillway.keep_latest_broadcasts('infinity', NULL, NULL, 2)")
                  .boolean(0, 0));
  EXPECT_EQ(session
                .exec("SELECT string_agg(channel || position, ' ' ORDER BY position) FROM "
                      "spillway.latest_broadcasts")
                .string(0, 0),
            "a4 d5");
}

// Random broadcasts, drops and questions, against a list.
TEST_F(LatestBroadcasts, AreThoseOfAListWhateverIsDroppedWhen) {
  std::mt19937 random(3);
  name({"M:*"});
  for (int round = 0; round < 12; ++round) {
    std::vector<std::string> batch;
    for (std::size_t n = 1 + random() % 30; n > 0; --n)
      batch.push_back((random() % 3 == 0   ? "o:"
                       : random() % 2 == 0 ? "M:"
                                           : "M:b:") +
                      std::to_string(random() % (1 + random() % 12)));
    tell(batch);
    if (random() % 2 == 0) drop();
    for (const std::string prefix : {"M:", "M:b:"}) {
      std::map<std::string, std::size_t> newest;
      for (std::size_t i = 0; i < told.size(); ++i)
        if (told[i].starts_with(prefix)) newest[told[i]] = i + 1;
      std::string expected;
      for (const auto& [channel, position] : newest)
        expected += channel + "@" + std::to_string(position) + " ";
      ASSERT_EQ(read({prefix + "*"}), expected + "all");
    }
  }
}

}  // namespace
}  // namespace spillway
