#include "effects/plain_rows.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>

#include "effects/names.hpp"

namespace spillway {
namespace {

constexpr std::uint32_t null_length = 0xffffffff;

void append_length(std::string& rows, std::uint32_t length) {
  char bytes[sizeof length];
  std::memcpy(bytes, &length, sizeof length);
  rows.append(bytes, sizeof bytes);
}

void append_value(std::string& rows, std::string_view text) {
  append_length(rows, static_cast<std::uint32_t>(text.size()));
  rows += text;
}

}  // namespace

bool is_plain(const json& row) {
  const auto* const object = row.get_ptr<const json::object_t*>();
  if (object == nullptr || object->empty()) return false;
  return std::all_of(object->begin(), object->end(), [](const auto& column) {
    const json& value = column.second;
    if (const auto* const text = value.template get_ptr<const std::string*>())
      return std::memchr(text->data(), 0, text->size()) == nullptr;
    return value.is_number_integer() || value.is_boolean() || value.is_null();
  });
}

std::optional<std::string> plain_cast(std::string_view column_type) {
  // An assignment checks lengths and rounds, as the input function does, so only the type counts.
  if (column_type == "text" || column_type == "character varying" ||
      column_type.starts_with("character varying("))
    return "";
  if (column_type.starts_with("numeric(")) return "::numeric";
  constexpr std::array<std::string_view, 13> types{"bigint",
                                                   "integer",
                                                   "smallint",
                                                   "boolean",
                                                   "real",
                                                   "double precision",
                                                   "numeric",
                                                   "uuid",
                                                   "date",
                                                   "timestamp with time zone",
                                                   "timestamp without time zone",
                                                   "time without time zone",
                                                   "inet"};
  if (std::find(types.begin(), types.end(), column_type) == types.end()) return std::nullopt;
  return "::" + std::string(column_type);
}

bool append_plain(std::string& rows, const json& row) {
  for (const auto& [column, value] : row.get_ref<const json::object_t&>()) {
    if (const auto* const text = value.get_ptr<const std::string*>()) {
      if (!is_utf8(*text)) return false;
      append_value(rows, *text);
    } else if (value.is_null()) {
      append_length(rows, null_length);
    } else if (value.is_boolean()) {
      append_value(rows, value.get<bool>() ? "true" : "false");
    } else {
      char digits[24];
      const auto end =
          value.is_number_unsigned()
              ? std::to_chars(digits, digits + sizeof digits, value.get<std::uint64_t>())
              : std::to_chars(digits, digits + sizeof digits, value.get<std::int64_t>());
      append_value(rows, {digits, static_cast<std::size_t>(end.ptr - digits)});
    }
  }
  return true;
}

std::vector<SqlArray> columns_of(std::string_view rows, std::size_t columns) {
  std::vector<SqlArray> arrays(columns, SqlArray(SqlArray::Of::texts));
  for (SqlArray& array : arrays) array.reserve(rows.size() / columns + 64);
  for (std::size_t at = 0, column = 0; at < rows.size(); column = (column + 1) % columns) {
    std::uint32_t length = 0;
    std::memcpy(&length, rows.data() + at, sizeof length);
    at += sizeof length;
    if (length == null_length) {
      arrays[column].add_null();
      continue;
    }
    arrays[column].add(rows.substr(at, length));
    at += length;
  }
  return arrays;
}

}  // namespace spillway
