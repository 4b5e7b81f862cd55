// The shop example through the real binary: examples/shop.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "tests/support/http_target.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;

void load_shop(Database& database) {
  std::ifstream file(SHOP_FOLDER "/schema.sql");
  std::stringstream text;
  text << file.rdbuf();
  database.query(text.str());
}

// A stream that has begun: until the server knows its head it asks clients to come back.
void subscribe(std::optional<SseClient>& client, int port, const std::string& target) {
  const bool begun = eventually([&] {
    client.emplace(port, target);
    return client->next().has_value();
  });
  if (!begun) throw std::runtime_error("no stream at " + target);
}

// The next frame that is no greeting; "name data".
std::string next_event(std::optional<SseClient>& client) {
  for (;;) {
    const auto frame = client->next();
    if (!frame) return "nothing";
    if (!frame->event.empty()) return frame->event + " " + frame->data;
  }
}

json order(const std::string& id, const std::string& sku, int quantity, const std::string& mail) {
  return {{"type", "OrderPlaced"},
          {"stream", "sku:" + sku},
          {"payload",
           {{"order_id", id},
            {"user_id", "1"},
            {"email", "ada@example.com"},
            {"sku", sku},
            {"quantity", quantity}}},
          {"context", mail.empty() ? json::object() : json{{"mail_url", mail}}}};
}

// What the handler answered to an event; the whole answer when there is no response in it.
json response_to(int port, const json& event) {
  const HttpAnswer answer = http(port, "POST", "/events?wait=10", event.dump());
  const json body = json::parse(answer.body, nullptr, false);
  return body.is_object() && body.contains("response") ? body["response"] : json(answer.body);
}

class Shop : public testing::Test {
 protected:
  Shop() {
    load_shop(database);
    worker.emplace(database.url(), std::vector<std::string>{
                                       "--handlers", SHOP_FOLDER "/handlers", "--runners", "2",
                                       "--retry-delay", "10ms", "--webhook-allow", "127.0.0.0/8"});
    worker->wait_until_ready();
  }

  std::string left(const std::string& sku) {
    return database.value("SELECT left_in_stock FROM stock WHERE sku = '" + sku + "'");
  }

  Database database;
  HttpTarget mail;
  std::optional<Worker> worker;
};

TEST_F(Shop, sells_the_last_one_once_and_tells_the_buyer) {
  const int port = worker->port();
  std::optional<SseClient> first;
  std::optional<SseClient> second;
  std::optional<SseClient> user;
  subscribe(first, port, "/sse/OrderStream/order:a");
  subscribe(second, port, "/sse/OrderStream/order:b");
  subscribe(user, port, "/sse/NotificationStream/user:1");

  EXPECT_EQ(response_to(port, order("a", "mug", 1, mail.url())),
            json({{"accepted", true}, {"left", 0}}));
  EXPECT_EQ(response_to(port, order("b", "mug", 1, mail.url())),
            json({{"accepted", false}, {"left", 0}}));
  EXPECT_EQ(response_to(port, order("a", "mug", 1, mail.url())),
            json({{"accepted", false}, {"reason", "order a is there already"}}));

  EXPECT_EQ(next_event(first), R"(OrderPlaced {"order_id":"a","quantity":1,"sku":"mug"})");
  EXPECT_EQ(next_event(second), R"(OrderRefused {"left":0,"order_id":"b","sku":"mug"})");
  EXPECT_EQ(next_event(user), R"(TaskComplete {"order_id":"a","task":"order-confirmation"})");

  ASSERT_EQ(mail.count(), 1u);
  EXPECT_EQ(json::parse(mail.requests()[0].body)["to"], "ada@example.com");
  EXPECT_EQ(left("mug"), "0");
  EXPECT_EQ(
      database.value("SELECT string_agg(concat_ws(' ', order_id, user_id, state, confirmation,"
                     " sku, quantity, price_cents), ', ') FROM orders"
                     " JOIN order_lines USING (order_id)"),
      "a 1 placed sent mug 1 1200");
  EXPECT_EQ(database.number("SELECT count(*) FROM orders"), 1);
  EXPECT_EQ(
      database.value("SELECT string_agg(concat_ws(' ', e.stream, e.idempotency_key, s.status),"
                     " ', ') FROM spillway.events e JOIN spillway.event_status s"
                     " ON s.event_id = e.id WHERE e.type = 'PaymentReminder'"),
      "order:a reminder-a scheduled");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
  EXPECT_EQ(worker->stop(), 0);
}

TEST_F(Shop, never_sells_more_than_there_is_however_many_order_at_once) {
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) SELECT 'OrderPlaced', 'sku:' || sku,"
      " jsonb_build_object('order_id', sku || n, 'user_id', '1', 'email', 'ada@example.com',"
      " 'sku', sku, 'quantity', 1 + n % 2)"
      " FROM generate_series(1, 200) n, unnest(ARRAY['pen', 'atlas']) sku");
  ASSERT_TRUE(eventually([&] {
    return database.number("SELECT count(*) FROM spillway.broadcasts") == 400;
  })) << worker->process().errors();
  EXPECT_EQ(left("pen"), "0");
  EXPECT_EQ(left("atlas"), "0");
  EXPECT_EQ(database.value("SELECT string_agg(sku || ' ' || n, ', ' ORDER BY sku) FROM"
                           " (SELECT sku, sum(quantity) n FROM order_lines GROUP BY sku) sold"),
            "atlas 3, pen 100");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.dead_letters"), 0);
}

TEST_F(Shop, reminds_only_of_what_is_not_paid) {
  const int port = worker->port();
  std::optional<SseClient> paid;
  std::optional<SseClient> user;
  subscribe(paid, port, "/sse/OrderStream/order:p");
  subscribe(user, port, "/sse/NotificationStream/user:1");
  for (const char* id : {"p", "q"})
    EXPECT_EQ(response_to(port, order(id, "pen", 1, ""))["accepted"], true);
  EXPECT_EQ(next_event(paid), R"(OrderPlaced {"order_id":"p","quantity":1,"sku":"pen"})");
  // Behind the payment on the stream of the order, so nothing has to be waited for.
  database.query(
      "INSERT INTO spillway.events (type, stream, payload) VALUES"
      " ('OrderPaid', 'order:p', '{\"order_id\":\"p\",\"user_id\":\"1\"}'),"
      " ('PaymentReminder', 'order:p', '{\"order_id\":\"p\"}'),"
      " ('PaymentReminder', 'order:q', '{\"order_id\":\"q\"}')");
  EXPECT_EQ(next_event(paid), R"(OrderPaid {"order_id":"p"})");
  EXPECT_EQ(next_event(user), R"(PaymentReminder {"order_id":"q"})");
  ASSERT_TRUE(eventually([&] {
    return database.number(
               "SELECT count(*) FROM spillway.event_status"
               " WHERE status NOT IN ('done', 'scheduled')") == 0;
  }));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.broadcasts"
                            " WHERE event_type = 'PaymentReminder'"),
            1);
  EXPECT_EQ(database.value("SELECT string_agg(order_id || ' ' || state, ', ' ORDER BY order_id)"
                           " FROM orders"),
            "p paid, q placed");
}

TEST_F(Shop, an_order_stays_when_its_confirmation_is_refused) {
  mail.answer(404);
  EXPECT_EQ(response_to(worker->port(), order("a", "mug", 1, mail.url()))["accepted"], true);
  EXPECT_TRUE(eventually([&] {
    return database.value("SELECT confirmation FROM orders") == "failed";
  })) << worker->process().errors();
  EXPECT_EQ(left("mug"), "0");
}

}  // namespace
}  // namespace spillway::test
