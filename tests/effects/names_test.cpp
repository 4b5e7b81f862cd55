#include "effects/names.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

std::string problem_of_table(const std::string& text) {
  TableName name;
  std::string problem;
  return parse_table_name(text, name, problem) ? name.quoted() : problem;
}

TEST(Names, IdentifiersAreQuoted) {
  EXPECT_EQ(quote_identifier("plain"), "\"plain\"");
  EXPECT_EQ(quote_identifier(R"("; drop table x; --)"), "\"\"\"; drop table x; --\"");
}

TEST(Names, TablesAreTakenAsWritten) {
  EXPECT_EQ(problem_of_table("items"), "\"items\"");
  EXPECT_EQ(problem_of_table("Items"), "\"Items\"");
  EXPECT_EQ(problem_of_table("shop.items"), "\"shop\".\"items\"");
  EXPECT_EQ(problem_of_table("a\"b"), "\"a\"\"b\"");
}

TEST(Names, WhatIsNoTableNameIsSaid) {
  EXPECT_EQ(problem_of_table(""), "is empty");
  EXPECT_EQ(problem_of_table("shop."), "is empty");
  EXPECT_EQ(problem_of_table(".items"), "is empty");
  EXPECT_EQ(problem_of_table("a.b.c"),
            "has more than one dot; write \"table\" or \"schema.table\"");
  EXPECT_EQ(problem_of_table(std::string(64, 'x')), "is longer than 63 bytes");
  EXPECT_EQ(problem_of_table(std::string("a\0b", 3)), "contains a NUL byte");
  EXPECT_EQ(problem_of_table("\xff"), "is not valid UTF-8");
}

TEST(Names, ReservedSchemasAreRefused) {
  for (const std::string schema : {"spillway", "pg_catalog", "information_schema", "pg_temp"})
    EXPECT_EQ(problem_of_table(schema + ".t"),
              "names schema \"" + schema + "\", which no effect may write to");
}

TEST(Names, EventTypesAreOneLineOfText) {
  EXPECT_EQ(problem_of_event_type(""), "");
  EXPECT_EQ(problem_of_event_type("größe"), "");
  EXPECT_EQ(problem_of_event_type(std::string(255, 'c')), "");
  EXPECT_EQ(problem_of_event_type(std::string(256, 'c')), "is longer than 255 bytes");
  EXPECT_EQ(problem_of_event_type("a\nid: 7"),
            "contains a control character, such as a line break");
  EXPECT_EQ(problem_of_event_type("\xc3("), "is not valid UTF-8");
}

TEST(Names, Utf8IsCheckedToTheLetter) {
  EXPECT_TRUE(is_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  EXPECT_FALSE(is_utf8("\xc0\x80"));          // overlong
  EXPECT_FALSE(is_utf8("\xe0\x80\x80"));      // overlong
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));      // surrogate
  EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80"));  // beyond U+10FFFF
  EXPECT_FALSE(is_utf8("\xe2\x82"));          // cut
  EXPECT_FALSE(is_utf8("\x80"));
}

}  // namespace
}  // namespace spillway
