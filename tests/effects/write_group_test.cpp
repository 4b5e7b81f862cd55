#include "effects/write_group.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

std::shared_ptr<Table> table(std::uint32_t oid) {
  auto made = std::make_shared<Table>();
  made->oid = oid;
  made->family = {oid};
  return made;
}

using Repeat = WriteShape::Repeat;

std::shared_ptr<const WriteShape> shape(std::shared_ptr<const Table> of,
                                        Repeat repeat = Repeat::together) {
  auto made = std::make_shared<WriteShape>();
  made->table = std::move(of);
  made->repeat = repeat;
  return made;
}

// Groups as "oid:rows", in order.
std::string group(
    const std::vector<std::pair<std::shared_ptr<const WriteShape>, std::string>>& writes) {
  WriteGrouping grouping;
  for (const auto& [of, rows] : writes) grouping.add({of, rows, 0, rows.substr(0, 1)});
  std::string text;
  for (const auto& made : grouping.take())
    text +=
        (text.empty() ? "" : " ") + std::to_string(made.shape->table->oid) + ":[" + made.rows + "]";
  return text;
}

TEST(WriteGrouping, WritesOfOneShapeBecomeOneStatement) {
  const auto a = shape(table(1));
  EXPECT_EQ(group({{a, "1"}, {a, "2"}, {a, "3,4"}}), "1:[1,2,3,4]");
}

TEST(WriteGrouping, UnrelatedTablesDoNotStandInTheWay) {
  const auto a = shape(table(1));
  const auto b = shape(table(2));
  EXPECT_EQ(group({{a, "1"}, {b, "2"}, {a, "3"}, {b, "4"}}), "1:[1,3] 2:[2,4]");
}

TEST(WriteGrouping, WritesOnOneTableNeverChangePlaces) {
  const auto same = table(1);
  const auto narrow = shape(same);
  const auto wide = shape(same);
  EXPECT_EQ(group({{narrow, "1"}, {wide, "2"}, {narrow, "3"}}), "1:[1] 1:[2] 1:[3]");
}

TEST(WriteGrouping, TablesTiedByAForeignKeyKeepTheirOrder) {
  auto parent_table = table(1);
  auto child_table = table(2);
  parent_table->family = child_table->family = {1, 2};
  const auto parent = shape(parent_table);
  const auto child = shape(child_table);
  // A child may refer to the parent just before it, and must not find one that comes later.
  EXPECT_EQ(group({{child, "1"}, {parent, "2"}, {child, "3"}}), "2:[1] 1:[2] 2:[3]");
  EXPECT_EQ(group({{parent, "1"}, {child, "2"}, {parent, "3"}}), "1:[1] 2:[2] 1:[3]");
}

TEST(WriteGrouping, NothingPassesATableWithTriggers) {
  auto triggered = table(2);
  triggered->opaque = true;
  const auto a = shape(table(1));
  const auto t = shape(triggered);
  EXPECT_EQ(group({{a, "1"}, {t, "2"}, {a, "3"}}), "1:[1] 2:[2] 1:[3]");
  EXPECT_EQ(group({{t, "1"}, {a, "2"}, {t, "3"}}), "2:[1] 1:[2] 2:[3]");
}

// The first character of a row is its key here.
TEST(WriteGrouping, ARowThatAStatementMayTouchOnceStartsAnother) {
  const auto a = shape(table(1), Repeat::apart);
  EXPECT_EQ(group({{a, "1"}, {a, "2"}, {a, "1x"}, {a, "3"}}), "1:[1,2] 1:[1x,3]");
}

TEST(WriteGrouping, OnlyTheLastOfAKeyCountsWhereOnlyTheLastCounts) {
  const auto a = shape(table(1), Repeat::last);
  const auto b = shape(table(2));
  EXPECT_EQ(group({{a, "1x"}, {b, "5"}, {a, "1y"}}), "1:[1y] 2:[5]");
}

TEST(WriteGrouping, WhatTouchesUnknownRowsIsAStatementEach) {
  const auto a = shape(table(1), Repeat::alone);
  EXPECT_EQ(group({{a, "1"}, {a, "2"}}), "1:[1] 1:[2]");
}

TEST(WriteGrouping, IsUsedUpByTake) {
  WriteGrouping grouping;
  grouping.add({shape(table(1)), "1", 0, ""});
  EXPECT_EQ(grouping.take().size(), 1u);
  EXPECT_TRUE(grouping.take().empty());
}

}  // namespace
}  // namespace spillway
