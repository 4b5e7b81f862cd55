// Checks of the names that effects carry. They come from payloads, so each is checked and quoted
// before it gets near SQL or the wire. Pure and thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace spillway {

// `name` in double quotes, quotes doubled: safe as an SQL identifier.
[[nodiscard]] std::string quote_identifier(std::string_view name);

struct TableName {
  std::string schema;  // empty: found by search_path
  std::string table;

  [[nodiscard]] std::string quoted() const;
};

// `table` or `schema.table`, taken as written. On failure `problem` says what is wrong with it.
[[nodiscard]] bool parse_table_name(std::string_view text, TableName& name, std::string& problem);

// Schemas that no effect may write to: spillway's own and the system's.
[[nodiscard]] bool is_reserved_schema(std::string_view schema);

// Empty when fine, else what is wrong: at most 255 bytes of UTF-8 without control characters (the
// frame format has no way to carry others).
[[nodiscard]] std::string problem_of_event_type(std::string_view event_type);

[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace spillway
