#include "processor/cli/dead_text.hpp"

#include <gtest/gtest.h>

namespace spillway::cli {
namespace {

DeadLetter letter(std::int64_t id, const std::string& type, const std::string& error) {
  DeadLetter made;
  made.event_id = id;
  made.type = type;
  made.attempts = 5;
  made.failed_at = "2026-01-31T12:00:00.123456Z";
  made.error = error;
  return made;
}

TEST(DeadText, WithoutAWidthErrorsAreWhole) {
  auto first = letter(17, "CommentAdded", "event 17 (CommentAdded): " + std::string(200, 'x'));
  first.stream = "item:42";
  EXPECT_EQ(
      to_table({first, letter(5, "Ü", "why")}, std::nullopt),
      "EVENT  TYPE          STREAM   ATTEMPTS  FAILED AT             ERROR\n"
      "17     CommentAdded  item:42  5         2026-01-31T12:00:00Z  event 17 (CommentAdded): " +
          std::string(200, 'x') +
          "\n"
          "5      Ü             -        5         2026-01-31T12:00:00Z  why\n");
}

TEST(DeadText, WithAWidthLinesAreCutBetweenCharacters) {
  const std::string table = to_table({letter(17, "A", "event 17 (A): äöü and on and on")}, 61);
  EXPECT_EQ(table,
            "EVENT  TYPE  STREAM  ATTEMPTS  FAILED AT             ERROR\n"
            "17     A     -       5         2026-01-31T12:00:00Z  äöü and…\n");
  EXPECT_EQ(to_table({letter(17, "A", "äöü")}, 1).substr(0, 8), "…\n…\n");
}

TEST(DeadText, ControlCharactersDoNotReachATerminal) {
  const std::string table =
      to_table({letter(1, "A\x1b[2J", "one\ntwo\x7f\xc2\x9bthree\r")}, std::nullopt);
  EXPECT_EQ(table.substr(table.find('\n') + 1),
            "1      A [2J  -       5         2026-01-31T12:00:00Z  one two  three \n");
}

TEST(DeadText, GroupsAreLinesToo) {
  EXPECT_EQ(to_table({DeadGroup{120, "A", "no N", "2026-01-31T12:00:00.5Z", 9}}, std::nullopt),
            "COUNT  TYPE  LAST                  E.G. EVENT  ERROR\n"
            "120    A     2026-01-31T12:00:00Z  9           no N\n");
}

TEST(DeadText, OneIsShownWithWhatCanBeDone) {
  DeadEvent event;
  event.letter = letter(17, "CommentAdded", "two\nlines\x1b");
  event.letter.stream = "item:42";
  event.letter.sqlstate = "23505";
  event.letter.holds_stream = true;
  event.held = 3;
  event.stream_version = 4;
  event.payload = "{\n    \"n\": 1\n}";
  event.context = "{\n}";
  event.correlation_id = "7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b11";
  event.causation_id = 16;
  event.idempotency_key = "k";
  event.max_attempts = 5;
  event.created_at = "2026-01-31T11:00:00.000000Z";
  event.execute_at = "2026-01-31T11:30:00.000000Z";
  EXPECT_EQ(to_text(event),
            "event            17\n"
            "type             CommentAdded\n"
            "stream           item:42, version 4\n"
            "correlation id   7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b11\n"
            "caused by        event 16\n"
            "idempotency key  k\n"
            "enqueued at      2026-01-31T11:00:00.000000Z\n"
            "due at           2026-01-31T11:30:00.000000Z\n"
            "died at          2026-01-31T12:00:00.123456Z\n"
            "attempts         5 of its own 5\n"
            "SQLSTATE         23505\n"
            "holds back       3 events of its stream\n"
            "error\n"
            "  two\n"
            "  lines \n"
            "payload\n"
            "  {\n"
            "      \"n\": 1\n"
            "  }\n"
            "context\n"
            "  {\n"
            "  }\n"
            "next\n"
            "  spillway try --event 17 --handlers PATH              what the handlers give for it "
            "now; applies nothing\n"
            "  spillway dead retry 17                               again, with all its attempts\n"
            "  spillway dead discard 17                             given up for good; it stays in "
            "the log\n"
            "  spillway trace 7b0c3f0e-3d0a-4a53-9d7c-0e4f1f3a9b11  what it belongs to\n");
}

}  // namespace
}  // namespace spillway::cli
