// What an access log hears: each request, each stream at its end, never a token.
#include "sse/access_record.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/sse/support.hpp"

namespace spillway::sse::test {
namespace {

struct Heard {
  std::mutex mutex;
  std::vector<AccessRecord> records;

  std::vector<AccessRecord> all() {
    const std::lock_guard lock(mutex);
    return records;
  }
};

class AccessRecords : public testing::Test {
 protected:
  ServerOptions options(std::size_t connections = 20) {
    ServerOptions options;
    options.max_connections = connections;
    options.access_log = [heard = heard](const AccessRecord& record) {
      const std::lock_guard lock(heard->mutex);
      heard->records.push_back(record);
    };
    return options;
  }
  bool has(std::size_t count) {
    return eventually([&] { return heard->all().size() >= count; });
  }

  std::shared_ptr<Heard> heard = std::make_shared<Heard>();
};

TEST_F(AccessRecords, OfARequestSayWhatWasAskedAndAnswered) {
  Site site(options());
  Client client = site.open("/nowhere?access_token=hush&x=1", "Connection: close\r\n");
  ASSERT_TRUE(client.read_to_end());
  ASSERT_TRUE(has(1));
  const AccessRecord record = heard->all().at(0);
  EXPECT_EQ(record.client, "127.0.0.1");
  EXPECT_EQ(record.method, "GET");
  EXPECT_EQ(record.target, "/nowhere?access_token=…&x=1");
  EXPECT_EQ(record.status, 404u);
  EXPECT_EQ(record.bytes, body_of(client.received()).size());
  EXPECT_EQ(record.end, "");
}

TEST_F(AccessRecords, OfAStreamComeAtItsEndWithWhatItTook) {
  Site site(options(), {.shards = 1});
  Client client = site.open("/sse/A/1?access_token=hush");
  ASSERT_TRUE(client.read_until("id: e-0\n\n"));
  site.publish({{"A:1", "", "1"}, {"A:1", "", "2"}});
  ASSERT_TRUE(client.read_until("id: e-2\n\n"));
  EXPECT_TRUE(heard->all().empty());
  const std::size_t received = client.received().size();
  client.reset();
  ASSERT_TRUE(has(1));
  const AccessRecord record = heard->all().at(0);
  EXPECT_EQ(record.target, "/sse/A/1?access_token=…");
  EXPECT_EQ(record.status, 200u);
  EXPECT_EQ(record.frames, 2u);
  EXPECT_EQ(record.bytes, received);
  EXPECT_EQ(record.end, "closed");
}

TEST_F(AccessRecords, SayWhyAStreamWasTurnedAway) {
  Site site(options(1), {.shards = 1});
  Client first = site.open("/sse/A/1");
  ASSERT_TRUE(first.read_until("\n\n"));
  Client second = site.open("/sse/A/1");
  ASSERT_TRUE(second.read_to_end());
  ASSERT_TRUE(has(1));
  EXPECT_EQ(heard->all().at(0).end, "connections");
}

TEST_F(AccessRecords, OfWhatIsNoRequestHaveNoTarget) {
  Site site(options());
  Client client(site.port(), "nonsense\r\n\r\n");
  ASSERT_TRUE(client.read_to_end());
  ASSERT_TRUE(has(1));
  EXPECT_EQ(heard->all().at(0).target, "");
  EXPECT_EQ(heard->all().at(0).status, 400u);
}

TEST_F(AccessRecords, OfStreamsThatEndWithTheServerAreThereToo) {
  {
    Site site(options(), {.shards = 1});
    Client client = site.open("/sse/A/1");
    ASSERT_TRUE(client.read_until("\n\n"));
    site.server.stop(kPatience);
  }
  const auto records = heard->all();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].end, "shutdown");
}

}  // namespace
}  // namespace spillway::sse::test
