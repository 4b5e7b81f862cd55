// Lines of the log, byte for byte: one line of valid UTF-8 whatever they hold, and no secrets.
#include "processor/log_line.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <string>

#include "processor/log_effect.hpp"

namespace spillway {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;
using json = nlohmann::json;

class LogLineTest : public testing::Test {
 protected:
  LogLineTest() { in_zone("UTC"); }
  ~LogLineTest() override { in_zone("UTC"); }

  static void in_zone(const char* zone) {
    setenv("TZ", zone, 1);
    tzset();
  }

  system_clock::time_point now{milliseconds(1769860800123)};  // 2026-01-31T12:00:00.123Z
};

TEST_F(LogLineTest, AsText) {
  EXPECT_EQ(to_text({LogLevel::info, "listening on http://127.0.0.1:8080"}, now),
            "2026-01-31T12:00:00.123+00:00 info listening on http://127.0.0.1:8080\n");
  const LogFields fields{{"event_id", 17},  {"type", "Pay"},         {"stream", "a b"},
                         {"empty", ""},     {"quoted", "say \"x\""}, {"equals", "a=b"},
                         {"none", nullptr}, {"fields", {{"k", 1.5}}}};
  EXPECT_EQ(to_text({LogLevel::warn, "it failed", fields}, now),
            "2026-01-31T12:00:00.123+00:00 warn it failed event_id=17 type=Pay stream=\"a b\" "
            "empty=\"\" quoted=\"say \\\"x\\\"\" equals=\"a=b\" none=null fields={\"k\":1.5}\n");
}

TEST_F(LogLineTest, AsJson) {
  EXPECT_EQ(
      to_json_line({LogLevel::error, "it \"failed\"", {{"event_id", 17}, {"type", "Pay"}}}, now),
      "{\"time\":\"2026-01-31T12:00:00.123+00:00\",\"level\":\"error\","
      "\"message\":\"it \\\"failed\\\"\",\"event_id\":17,\"type\":\"Pay\"}\n");
}

TEST_F(LogLineTest, TimesAreOfTheLocalZone) {
  in_zone("America/St_Johns");
  EXPECT_TRUE(to_text({LogLevel::info, "x"}, now).starts_with("2026-01-31T08:30:00.123-03:30 "));
  in_zone("Europe/Berlin");
  EXPECT_TRUE(to_text({LogLevel::info, "x"}, now).starts_with("2026-01-31T13:00:00.123+01:00 "));
}

TEST_F(LogLineTest, WhateverItHoldsItIsOneLine) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  for (const std::string& odd : {std::string("a\nb\r\nc\t\x1b[31m"), std::string("\0nul", 4),
                                 std::string("\xff\xfe\xc0\xaf"), std::string("\xe2\x82"), all,
                                 std::string("\x7f\xc2\x85")}) {
    const LogLine line(LogLevel::warn, odd, {{"field", odd}, {odd, "name"}});
    for (const std::string& text : {to_text(line, now), to_json_line(line, now)}) {
      EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
      for (const char c : text.substr(0, text.size() - 1))
        EXPECT_GE(static_cast<unsigned char>(c), 0x20) << text;
      EXPECT_NO_THROW(static_cast<void>(json(text).dump())) << "not UTF-8";
    }
    EXPECT_TRUE(json::parse(to_json_line(line, now)).is_object());
  }
  EXPECT_EQ(to_text({LogLevel::info, "a\nb \"c\" \\ \x1b"}, now),
            "2026-01-31T12:00:00.123+00:00 info a\\nb \"c\" \\ \\u001b\n");
}

TEST_F(LogLineTest, FieldsCannotTakeThePlaceOfTheLinesOwn) {
  const json line = json::parse(to_json_line(
      {LogLevel::info, "the message", {{"message", "another"}, {"level", "error"}}}, now));
  EXPECT_EQ(line.at("message"), "the message");
  EXPECT_EQ(line.at("level"), "info");
}

TEST_F(LogLineTest, IsNotLongerThanAllowed) {
  const std::string huge(1u << 20, 'x');
  const LogLine line(LogLevel::info, huge, {{"text", huge}, {"object", {{"k", huge}}}});
  EXPECT_LT(to_text(line, now).size(), 20'000u);
  EXPECT_LT(to_json_line(line, now).size(), 20'000u);
  EXPECT_NE(to_text(line, now).find("(1040384 bytes more)"), std::string::npos);
}

TEST_F(LogLineTest, ShowsNoSecret) {
  for (const std::string text :
       {"postgres://ann:hush@db/x", "cannot reach postgresql://ann:hush@db:5432/x?sslmode=require",
        "host=db password=hush user=ann", "https://user:hush@example.org/path",
        "redirected to https://example.org/cb?key=hush&x=1 (302)", "see http://h/a?token=hush",
        "twice http://h/?a=hush and \"https://i/?b=hush\""}) {
    const LogLine line(LogLevel::info, text, {{"field", text}, {"deep", {{"url", text}}}});
    EXPECT_EQ(to_text(line, now).find("hush"), std::string::npos) << to_text(line, now);
    EXPECT_EQ(to_json_line(line, now).find("hush"), std::string::npos) << to_json_line(line, now);
    EXPECT_TRUE(json::parse(to_json_line(line, now)).at("deep").is_object());
  }
  EXPECT_EQ(without_secrets("redirected to https://example.org/cb?key=hush (302)"),
            "redirected to https://example.org/cb?… (302)");
  EXPECT_EQ(without_secrets("http://127.0.0.1:8080/ is fine? yes: a@b"),
            "http://127.0.0.1:8080/ is fine? yes: a@b");
}

TEST_F(LogLineTest, OfAnEventNamesItAndItsCorrelation) {
  Event event;
  event.id = 5;
  event.type = "A";
  event.correlation_id = "c";
  event.attempt = 2;
  EXPECT_EQ(fields_of(event).dump(),
            R"({"event_id":5,"type":"A","correlation_id":"c","attempt":2})");
  event.stream = "s";
  EXPECT_EQ(fields_of(event).dump(),
            R"({"event_id":5,"type":"A","stream":"s","correlation_id":"c","attempt":2})");
}

TEST_F(LogLineTest, ALogEffectKeepsItsFieldsApart) {
  const LogLine line =
      line_of({5, "A", "c"}, Log{"warn", "low on pens", {{"left", 2}, {"event_id", "mine"}}});
  EXPECT_EQ(line.level, LogLevel::warn);
  EXPECT_EQ(
      to_json_line(line, now),
      "{\"time\":\"2026-01-31T12:00:00.123+00:00\",\"level\":\"warn\",\"message\":\"low on "
      "pens\",\"event_id\":5,\"type\":\"A\",\"correlation_id\":\"c\",\"fields\":{\"event_id\":"
      "\"mine\",\"left\":2}}\n");
}

}  // namespace
}  // namespace spillway
