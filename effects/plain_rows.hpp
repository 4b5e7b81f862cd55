// Rows of plain values (text, whole numbers, booleans, nulls) on their way into columns of plain
// types: they travel as one array of text for each column, which costs PostgreSQL a third of what
// the same rows cost as JSON. It converts each value by its type's input function either way, so
// the same is accepted and refused. Pure and thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "effects/sql_array.hpp"
#include "spillway/effect.hpp"

namespace spillway {

// An object with at least one column, and nothing but plain values. A number with a fraction is not
// plain, since JSON has more than one text for it, and neither is text with a NUL in it, which has
// an error of its own.
[[nodiscard]] bool is_plain(const json& row);

// What to write behind a value of type text so that it fits a column of this type (format_type's
// name of it); none when the type is not plain.
[[nodiscard]] std::optional<std::string> plain_cast(std::string_view column_type);

// Appends a plain row, in the order of its columns' names. False: text that is not valid UTF-8.
[[nodiscard]] bool append_plain(std::string& rows, const json& row);

// What was appended, column by column.
[[nodiscard]] std::vector<SqlArray> columns_of(std::string_view rows, std::size_t columns);

}  // namespace spillway
