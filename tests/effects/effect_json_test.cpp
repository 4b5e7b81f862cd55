#include "effects/effect_json.hpp"

#include <gtest/gtest.h>

#include "effects/effect_error.hpp"

namespace spillway {
namespace {

std::string error_of(const std::string& text) {
  try {
    static_cast<void>(effects_from_json(json::parse(text)));
  } catch (const EffectError& error) {
    return error.what();
  }
  return "no error";
}

TEST(EffectJson, ReadsEveryKindAndWritesItBack) {
  const json list = json::parse(R"([
    {"Insert":{"table":"t","data":{"a":1}}},
    {"Insert":{"table":"s.t","data":[{"a":1},{"a":2}],"on_conflict":"ignore"}},
    {"SSEBroadcast":{"channel":"C:1","event_type":"E","data":"text"}},
    {"SSEBroadcast":{"channel":"C:1","event_type":"","data":null,"ephemeral":true}},
    {"Upsert":{"table":"t","data":{"a":1},"key":["a","b"]}},
    {"Update":{"table":"t","set":{"a":1},"where":{"b":2}}},
    {"Delete":{"table":"t","where":{"b":2}}},
    {"ScheduleEvent":{"event_type":"E","payload":{},"delay_seconds":1.5,"stream":"s"}},
    {"ScheduleEvent":{"event_type":"E","payload":{},"delay_minutes":2.0}},
    {"ScheduleEvent":{"event_type":"E","payload":1,"execute_at":"2030-01-01","idempotency_key":"k"}},
    {"TriggerWebhook":{"url":"https://a.example/","payload":{"a":1}}},
    {"TriggerWebhook":{"url":"http://b/","payload":null,"headers":{"X-A":"1","X-B":""},"name":"n"}},
    {"KVSet":{"key":"k","value":[1],"ttl_seconds":60.0}},
    {"KVDelete":{"key":"k"}},
    {"Log":{"level":"info","message":"m","fields":{"a":1}}}])");
  const Effects effects = effects_from_json(list);
  const Effects expected{
      Insert{"t", {{"a", 1}}},
      Insert{"s.t", json::array({{{"a", 1}}, {{"a", 2}}}), OnConflict::ignore},
      SSEBroadcast{"C:1", "E", "text"},
      SSEBroadcast{"C:1", "", nullptr, true},
      Upsert{"t", {{"a", 1}}, {"a", "b"}},
      Update{"t", {{"a", 1}}, {{"b", 2}}},
      Delete{"t", {{"b", 2}}},
      ScheduleEvent{.event_type = "E", .delay_seconds = 1.5, .stream = "s"},
      ScheduleEvent{.event_type = "E", .delay_minutes = 2},
      ScheduleEvent{
          .event_type = "E", .payload = 1, .execute_at = "2030-01-01", .idempotency_key = "k"},
      TriggerWebhook{"https://a.example/", {{"a", 1}}},
      TriggerWebhook{"http://b/", nullptr, {{"X-A", "1"}, {"X-B", ""}}, "n"},
      KVSet{"k", {1}, 60},
      KVDelete{"k"},
      Log{"info", "m", {{"a", 1}}},
  };
  EXPECT_EQ(effects, expected);
  EXPECT_EQ(to_json(effects), list);
}

TEST(EffectJson, DefaultsMayBeWrittenOut) {
  EXPECT_EQ(effects_from_json(json::parse(
                R"([{"Insert":{"table":"t","data":{},"on_conflict":"error"}},
                    {"SSEBroadcast":{"channel":"c","event_type":"e","data":1,"ephemeral":false}}])")),
            (Effects{Insert{"t", json::object()}, SSEBroadcast{"c", "e", 1}}));
}

TEST(EffectJson, AnEmptyListIsNoEffects) {
  EXPECT_TRUE(effects_from_json(json::array()).empty());
}

TEST(EffectJson, ErrorsNameIndexKindAndField) {
  EXPECT_EQ(error_of(R"({"Insert":{}})"), "effects must be an array of effects, not an object");
  EXPECT_EQ(error_of(R"(["x"])"),
            "effect 0: must be an object such as {\"Insert\":{…}}, not a string");
  EXPECT_EQ(error_of(R"([{}])"),
            "effect 0: must have one key, the kind, e.g. {\"Insert\":{…}}; it has 0");
  EXPECT_EQ(error_of(R"([{"Insert":{"table":"t","data":{}},"Log":{}}])"),
            "effect 0: must have one key, the kind, e.g. {\"Insert\":{…}}; it has 2");
  EXPECT_EQ(
      error_of(R"([{"Insert":{"table":"t","data":{}}},{"Instert":{}}])"),
      "effect 1: unknown kind \"Instert\"; there is Insert, Upsert, Update, Delete, SSEBroadcast, "
      "ScheduleEvent, TriggerWebhook, KVSet, KVDelete, Log");
  EXPECT_EQ(error_of(R"([{"Insert":7}])"),
            "effect 0 (Insert): must be an object with table, data, on_conflict, not a number");
  EXPECT_EQ(error_of(R"([{"Insert":{"data":{}}}])"),
            "effect 0 (Insert), field \"table\": is missing");
  EXPECT_EQ(error_of(R"([{"Insert":{"table":1,"data":{}}}])"),
            "effect 0 (Insert), field \"table\": must be a string, not a number");
  EXPECT_EQ(
      error_of(R"([{"Insert":{"table":"t","data":{},"on_conflict":"replace"}}])"),
      "effect 0 (Insert), field \"on_conflict\": must be \"error\" or \"ignore\", not \"replace\"");
  EXPECT_EQ(error_of(R"([{"Insert":{"table":"t","data":{},"tabel":"x"}}])"),
            "effect 0 (Insert), field \"tabel\": is unknown; there is table, data, on_conflict");
  EXPECT_EQ(
      error_of(R"([{"SSEBroadcast":{"channel":"c","event_type":"e","data":1,"ephemeral":"no"}}])"),
      "effect 0 (SSEBroadcast), field \"ephemeral\": must be true or false, not a string");
  EXPECT_EQ(error_of(R"([{"TriggerWebhook":{"url":"http://a/"}}])"),
            "effect 0 (TriggerWebhook), field \"payload\": is missing");
  EXPECT_EQ(
      error_of(R"([{"TriggerWebhook":{"url":"http://a/","payload":1,"headers":["X-A: 1"]}}])"),
      "effect 0 (TriggerWebhook), field \"headers\": must be an object of strings, not an array");
  EXPECT_EQ(error_of(R"([{"TriggerWebhook":{"url":"http://a/","payload":1,"headers":{"X-A":1}}}])"),
            "effect 0 (TriggerWebhook), field \"headers\": \"X-A\" must be a string, not a number");
}

}  // namespace
}  // namespace spillway
