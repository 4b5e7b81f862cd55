#include "effects/plain_rows.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

namespace spillway {
namespace {

std::string columns(const std::vector<json>& rows) {
  std::string bytes;
  for (const json& row : rows) EXPECT_TRUE(append_plain(bytes, row));
  std::string text;
  for (const SqlArray& column : columns_of(bytes, rows.front().size())) text += column.text();
  return text;
}

TEST(PlainRows, GoColumnByColumnInTheOrderOfTheirNames) {
  EXPECT_EQ(columns({{{"b", "x"}, {"a", 1}}, {{"b", nullptr}, {"a", -2}}}),
            R"({"1","-2"}{"x",NULL})");
  EXPECT_EQ(columns({{{"only", ""}}}), R"({""})");
  EXPECT_EQ(columns({{{"q", "a \"quote\", a \\, {braces}, NULL"}}}),
            R"({"a \"quote\", a \\, {braces}, NULL"})");
  EXPECT_EQ(columns({{{"yes", true}, {"no", false}}}), R"({"false"}{"true"})");
  EXPECT_EQ(columns({{{"most", std::numeric_limits<std::uint64_t>::max()},
                      {"least", std::numeric_limits<std::int64_t>::min()}}}),
            R"({"-9223372036854775808"}{"18446744073709551615"})");
  EXPECT_EQ(columns({{{"long", std::string(70'000, 'x')}}}).size(), 70'004u);
}

TEST(PlainRows, AreThoseWithoutValuesThatJsonSpellsInItsOwnWay) {
  EXPECT_TRUE(is_plain({{"a", 1}, {"b", "x"}, {"c", nullptr}, {"d", true}}));
  EXPECT_FALSE(is_plain(json::object()));
  EXPECT_FALSE(is_plain(json::array({1})));
  EXPECT_FALSE(is_plain("text"));
  EXPECT_FALSE(is_plain({{"a", 1.5}}));
  EXPECT_FALSE(is_plain({{"a", json::array()}}));
  EXPECT_FALSE(is_plain({{"a", 1}, {"b", json::object()}}));
  EXPECT_FALSE(is_plain({{"a", std::string("x\0y", 3)}}));
}

TEST(PlainRows, TextThatIsNotUtf8IsRefused) {
  std::string bytes;
  EXPECT_FALSE(append_plain(bytes, {{"a", "\xff"}}));
}

TEST(PlainRows, ColumnsOfOtherTypesStayWithJson) {
  EXPECT_EQ(plain_cast("text"), "");
  EXPECT_EQ(plain_cast("character varying(20)"), "");
  EXPECT_EQ(plain_cast("numeric(10,2)"), "::numeric");
  EXPECT_EQ(plain_cast("timestamp with time zone"), "::timestamp with time zone");
  for (const char* type : {"jsonb", "json", "text[]", "public.my_domain", "bytea", "interval",
                           "xml", "character(3)", "timestamp(3) with time zone", "tsvector", ""})
    EXPECT_FALSE(plain_cast(type)) << type;
}

TEST(SqlArray, IsTheServersBinaryForm) {
  SqlArray array(SqlArray::Of::texts);
  EXPECT_EQ(array.binary(), std::string("\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\0\0\0\0\1", 20));
  EXPECT_EQ(array.text(), "{}");
  array.add("ab");
  array.add_null();
  EXPECT_EQ(array.binary(), std::string("\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\2\0\0\0\1"
                                        "\0\0\0\2ab\xff\xff\xff\xff",
                                        30));
  EXPECT_EQ(array.text(), R"({"ab",NULL})");
  SqlArray numbers(SqlArray::Of::bigints);
  for (const std::int64_t number :
       {std::int64_t{1}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::min()})
    numbers.add(number);
  EXPECT_EQ(numbers.text(), "{1,-1,-9223372036854775808}");
  EXPECT_EQ(numbers.size(), 3u);
}

}  // namespace
}  // namespace spillway
