// What processes tell each other of their subscribers: the tables, the mirror, the exchange.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "processor/channel_list.hpp"
#include "processor/presence_exchange.hpp"
#include "processor/presence_mirror.hpp"
#include "processor/presence_store.hpp"
#include "processor/worker_registry.hpp"
#include "sse/presence.hpp"
#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using nlohmann::json;
using test::Database;
using test::eventually;

constexpr const char* kRows =
    "SELECT string_agg(concat_ws(' ', channel, member, connections), ', ' ORDER BY channel, member)"
    " FROM spillway.subscribers";

// A process as others see it: a row, and the lock that says it lives.
struct Process {
  explicit Process(Database& database)
      : session(std::make_unique<PgConnection>(database.target())),
        id(WorkerRegistry(*session, false).enter({0, 1, true})) {}

  std::unique_ptr<PgConnection> session;
  std::int64_t id;
};

// --- the tables ---

TEST(PresenceStore, KeepsWhatWasLastWritten) {
  Database database;
  Process process(database);
  PresenceStore store(*process.session);
  EXPECT_FALSE(store.write(process.id, 1, {{"A:1", "", 1, false}})) << "not begun";
  EXPECT_EQ(database.value(kRows), "");
  store.begin(process.id, 1);
  EXPECT_TRUE(store.write(process.id, 2, {{"A:1", "", 2, false}, {"R:\"1\\", "ann", 1, true}}));
  EXPECT_TRUE(store.write(process.id, 3, {{"A:1", "", 0, false}, {"R:\"1\\", "ann", 3, true}}));
  EXPECT_EQ(database.value(kRows), "R:\"1\\ ann 3");
  EXPECT_TRUE(store.write(process.id, 4, {{"R:\"1\\", "ann", 0, true}}));
  EXPECT_EQ(database.value(kRows), "R:\"1\\ ann 0") << "others are to see it go";
  store.purge(process.id, 3);
  EXPECT_EQ(database.value(kRows), "R:\"1\\ ann 0");
  store.purge(process.id, 4);
  EXPECT_EQ(database.value(kRows), "");
  store.leave(process.id);
  EXPECT_FALSE(store.is_there(process.id));
}

TEST(PresenceStore, OnlyProcessesThatLiveCount) {
  Database database;
  Process here(database);
  auto there = std::make_unique<Process>(database);
  PresenceStore store(*here.session);
  PresenceStore theirs(*there->session);
  store.begin(here.id, 1);
  theirs.begin(there->id, 7);
  ASSERT_TRUE(store.write(here.id, 2, {{"A:1", "", 2, false}, {"A:*", "", 1, false}}));
  ASSERT_TRUE(theirs.write(there->id, 8, {{"A:1", "", 3, false}, {"R:1", "ann", 1, true}}));
  constexpr const char* counts =
      "SELECT string_agg(concat_ws(' ', channel, subscribers, processes), ', ' ORDER BY channel)"
      " FROM spillway.channels";
  EXPECT_EQ(database.value(counts), "A:* 1 1, A:1 5 2, R:1 1 1");
  EXPECT_EQ(store.others(here.id), (std::vector<StreamServer>{{there->id, 8, 7}}));
  const auto elsewhere = count_elsewhere(*here.session, here.id, "A:");
  ASSERT_EQ(elsewhere.size(), 1u);
  EXPECT_EQ(elsewhere[0].subscribers, 3u);

  there.reset();  // as by kill -9
  ASSERT_TRUE(eventually([&] { return store.others(here.id).empty(); }));
  EXPECT_EQ(database.value(counts), "A:* 1 1, A:1 2 1");
  EXPECT_TRUE(count_elsewhere(*here.session, here.id, "").empty());
  // Its rows are removed, also those without a row that names their process.
  database.query("DELETE FROM spillway.stream_servers WHERE worker <> " + std::to_string(here.id));
  PgConnection upkeep(database.target());
  EXPECT_EQ(presence_upkeep().run(upkeep), std::nullopt);
  EXPECT_EQ(database.value(kRows), "A:*  1, A:1  2");
}

TEST(PresenceStore, IsForTheOwnerAlone) {
  Database database;
  for (const char* relation : {"subscribers", "stream_servers", "channels"})
    EXPECT_EQ(database.number(std::string("SELECT count(*) FROM pg_class, aclexplode(coalesce("
                                          "relacl, acldefault('r', relowner))) a WHERE oid = "
                                          "'spillway.") +
                              relation + "'::regclass AND a.grantee = 0"),
              0)
        << relation;
}

TEST(PresenceStore, ReadsWhatIsNewerInOrder) {
  Database database;
  Process process(database);
  PresenceStore store(*process.session);
  store.begin(process.id, 1);
  ASSERT_TRUE(store.write(process.id, 2, {{"R:1", "ann", 1, true}, {"R:2", "eve", 1, true}}));
  ASSERT_TRUE(store.write(process.id, 3, {{"R:1", "bob", 1, true}, {"X:1", "", 9, false}}));
  ASSERT_TRUE(store.write(process.id, 4, {{"R:1", "ann", 0, true}}));
  const auto names = [](const auto& newer) {
    std::string text;
    for (const auto& [version, row] : newer)
      text += std::to_string(version) + row.member + std::to_string(row.connections) + " ";
    return text;
  };
  EXPECT_EQ(names(store.newer(process.id, 0, {"R:1", "X:1"}, 10)), "3bob1 4ann0 ");
  EXPECT_EQ(names(store.newer(process.id, 3, {"R:1"}, 10)), "4ann0 ");
  EXPECT_EQ(names(store.newer(process.id, 0, {"R:1", "R:2"}, 1)), "2eve1 ");
  const auto now = store.on_channels({process.id}, {"R:1", "R:2"}, 10);
  EXPECT_EQ(now.size(), 2u) << "without those who have gone";
}

// --- the mirror ---

TEST(PresenceMirror, SumsUpProcessesAndForgetsThem) {
  PresenceMirror mirror;
  EXPECT_EQ(mirror.follow({{"R:1", 1}, {"R:2", 2}}), (std::vector<std::string>{"R:1", "R:2"}));
  mirror.set(1, "R:1", "ann", 2);
  mirror.set(2, "R:1", "ann", 1);
  mirror.set(2, "R:2", "", 4);
  mirror.set(2, "R:3", "eve", 1);  // not followed
  EXPECT_EQ(mirror.take_changed(),
            (std::vector<sse::PresenceRow>{{"R:1", "ann", 3}, {"R:2", "", 4}}));
  mirror.set(2, "R:1", "ann", 1);
  EXPECT_TRUE(mirror.take_changed().empty()) << "nothing new";
  mirror.forget(2);
  EXPECT_EQ(mirror.take_changed(),
            (std::vector<sse::PresenceRow>{{"R:1", "ann", 2}, {"R:2", "", 0}}));
  mirror.set(1, "R:1", "ann", 0);
  EXPECT_EQ(mirror.take_changed(), (std::vector<sse::PresenceRow>{{"R:1", "ann", 0}}));
}

TEST(PresenceMirror, AChannelThatWasGivenUpInBetweenIsReadAgain) {
  PresenceMirror mirror;
  static_cast<void>(mirror.follow({{"R:1", 1}}));
  mirror.set(1, "R:1", "ann", 1);
  EXPECT_EQ(mirror.follow({{"R:1", 3}}), (std::vector<std::string>{"R:1"}));
  mirror.set(1, "R:1", "ann", 1);
  EXPECT_EQ(mirror.take_changed(), (std::vector<sse::PresenceRow>{{"R:1", "ann", 1}}));
  EXPECT_TRUE(mirror.follow({{"R:1", 3}}).empty());
}

TEST(PresenceMirror, HasABound) {
  PresenceMirror mirror(2);
  static_cast<void>(mirror.follow({{"R:1", 1}}));
  for (const char* member : {"a", "b", "c"}) mirror.set(1, "R:1", member, 1);
  EXPECT_EQ(mirror.take_changed().size(), 2u);
  mirror.set(1, "R:1", "a", 0);
  mirror.set(1, "R:1", "d", 1);
  EXPECT_EQ(mirror.take_changed(),
            (std::vector<sse::PresenceRow>{{"R:1", "a", 0}, {"R:1", "d", 1}}));
}

// --- the exchange ---

// A process's subscribers and presence, without a server.
struct Side {
  explicit Side(Database& database, bool announces = true)
      : process(database),
        presence({{"R:*"}, std::chrono::milliseconds(0), true},
                 [](const std::shared_ptr<const std::vector<sse::PresenceNews>>&) {}) {
    if (announces) subscribers.announce_to(&presence);
    exchange.emplace(PresenceExchangeOptions{database.target(),
                                             &subscribers,
                                             announces ? &presence : nullptr,
                                             [this] { return process.id; },
                                             {},
                                             {}},
                     wake);
    exchange->start();
  }
  ~Side() {
    exchange->stop();
    places.clear();
  }

  void join(const std::string& channel, const std::string& member = "") {
    auto joined = subscribers.join({channel}, member);
    places.push_back(std::get<sse::Subscribers::Places>(std::move(joined)));
  }

  Process process;
  sse::Subscribers subscribers{0};
  sse::Presence presence;
  Wake wake;
  std::vector<sse::Subscribers::Places> places;
  std::optional<PresenceExchange> exchange;
};

TEST(PresenceExchange, WritesWhatChangesAndTakesItAwayAtTheEnd) {
  Database database;
  {
    Side side(database);
    side.join("A:1");
    side.join("A:1");
    side.join("R:1", "ann");
    side.join("R:1");
    EXPECT_TRUE(eventually([&] { return database.value(kRows) == "A:1  2, R:1  1, R:1 ann 1"; }))
        << database.value(kRows);
    side.places.clear();
    EXPECT_TRUE(eventually([&] { return database.value(kRows) == "R:1  0, R:1 ann 0"; }))
        << database.value(kRows);
  }
  EXPECT_EQ(database.value(kRows), "");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.stream_servers"), 0);
}

TEST(PresenceExchange, WritesNothingWhileNothingChanges) {
  Database database;
  Side side(database, false);
  side.join("A:1");
  ASSERT_TRUE(eventually([&] { return database.value(kRows) == "A:1  1"; }));
  const auto version = [&] {
    return database.value("SELECT concat(version, ' ', xmin) FROM spillway.stream_servers");
  };
  const std::string before = version();
  // It looks once a second whether its row is there: let it do so three times.
  std::set<std::string> looks;
  EXPECT_TRUE(eventually([&] {
    looks.insert(
        database.value("SELECT max(query_start) FROM pg_stat_activity WHERE query LIKE "
                       "'SELECT FROM spillway.stream_servers%'"));
    return looks.size() > 3;
  }));
  EXPECT_EQ(version(), before);
}

TEST(PresenceExchange, WritesAllAnewWhenItsRowsAreGone) {
  Database database;
  Side side(database);
  side.join("A:1");
  side.join("R:1", "ann");
  ASSERT_TRUE(eventually([&] { return database.value(kRows) == "A:1  1, R:1 ann 1"; }));
  // As after a crash of PostgreSQL, and as after upkeep that took the process for dead.
  database.query("TRUNCATE spillway.subscribers, spillway.stream_servers");
  EXPECT_TRUE(eventually([&] { return database.value(kRows) == "A:1  1, R:1 ann 1"; }));
  // And when its connection is lost with what it was about to write.
  database.query(
      "TRUNCATE spillway.subscribers; SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
      " WHERE datname = current_database() AND query LIKE '%stream_servers%'"
      " AND pid <> pg_backend_pid()");
  side.join("B:1");
  EXPECT_TRUE(eventually([&] { return database.value(kRows) == "A:1  1, B:1  1, R:1 ann 1"; }))
      << database.value(kRows);
}

TEST(PresenceExchange, TellsOfMembersElsewhere) {
  Database database;
  Side here(database);
  auto there = std::make_unique<Side>(database);
  here.presence.start();
  there->presence.start();
  const auto known = [](Side& side, const std::string& member) {
    return side.presence.remote_count("R:1", member);
  };
  here.join("R:1", "ann");
  there->join("R:1", "bob");
  there->join("R:1", "bob");
  there->join("R:1");
  EXPECT_TRUE(eventually([&] { return known(here, "bob") == 2 && known(here, "") == 1; }));
  EXPECT_TRUE(eventually([&] { return known(*there, "ann") == 1; }));
  there->places.erase(there->places.begin());
  EXPECT_TRUE(eventually([&] { return known(here, "bob") == 1; }));
  // A channel that is new here, though its members are not new there.
  there->join("R:2", "carl");
  ASSERT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM spillway.subscribers WHERE member = 'carl'") == 1;
  }));
  here.join("R:2");
  EXPECT_TRUE(eventually([&] { return here.presence.remote_count("R:2", "carl") == 1; }));
  // The process dies: its session is gone, its rows are still there.
  there->process.session.reset();
  EXPECT_TRUE(eventually([&] { return known(here, "bob") == 0 && known(here, "") == 0; }));
  here.presence.stop();
  there->presence.stop();
}

TEST(PresenceExchange, SaysOnceWhatItIsNotAllowed) {
  Database database;
  database.query("DROP TABLE spillway.stream_servers");
  Process process(database);
  sse::Subscribers subscribers(0);
  Wake wake;
  std::mutex mutex;
  std::vector<std::string> said;
  std::atomic<int> tries{0};
  PresenceExchange exchange({database.target(),
                             &subscribers,
                             nullptr,
                             [&] {
                               ++tries;
                               return process.id;
                             },
                             {},
                             [&](const std::string& line) {
                               const std::lock_guard lock(mutex);
                               said.push_back(line);
                             }},
                            wake);
  exchange.start();
  EXPECT_TRUE(eventually([&] { return tries >= 4; }));
  exchange.stop();
  ASSERT_EQ(said.size(), 1u);
  EXPECT_TRUE(said[0].starts_with("telling other processes of subscribers failed: relation"))
      << said[0];
}

// --- GET /api/channels ---

TEST(ChannelList, SortsBySubscribersOfAllProcesses) {
  const ChannelList list =
      channel_list({{"A:1", 2}, {"A:*", 1}, {"B:1", 3}}, {{"A:1", 5}, {"C:1", 3}}, 3);
  EXPECT_EQ(list.total, 4u);
  EXPECT_EQ(list.subscribers, 14u);
  EXPECT_EQ(list.channels,
            (std::vector<ListedChannel>{{"A:1", 7, 2}, {"B:1", 3, 3}, {"C:1", 3, 0}}));
  EXPECT_EQ(to_json(channel_list({{"A:*", 1}, {"A:1", 2}}, {}, 10)), json::parse(R"({
      "channels": [{"channel":"A:1","subscribers":2,"local":2},
                   {"channel":"A:*","subscribers":1,"local":1,"pattern":true}],
      "total": 2, "subscribers": 3})"));
}

TEST(ChannelList, QueriesAreCheckedWithWhatToWrite) {
  EXPECT_EQ(channel_query("").limit, 100u);
  EXPECT_EQ(channel_query("prefix=R%C3%A4um+1%3A&limit=1000").prefix, "Räum 1:");
  EXPECT_EQ(channel_query("limit=7&x=y").limit, 7u);
  for (const char* query : {"limit=0", "limit=1001", "limit=x", "limit=", "limit=5x", "limit=-1",
                            "prefix=%zz", "prefix=%00", "prefix=a%0A", "prefix=%FF"})
    EXPECT_THROW(static_cast<void>(channel_query(query)), std::invalid_argument) << query;
}

}  // namespace
}  // namespace spillway
