#include "effects/names.hpp"

namespace spillway {
namespace {

constexpr std::size_t identifier_bytes = 63;  // PostgreSQL's NAMEDATALEN - 1; longer would be cut
constexpr std::size_t event_type_bytes = 255;

std::string problem_of_identifier(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.size() > identifier_bytes) return "is longer than 63 bytes";
  if (name.find('\0') != std::string_view::npos) return "contains a NUL byte";
  if (!is_utf8(name)) return "is not valid UTF-8";
  return {};
}

}  // namespace

std::string quote_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted += '"';
}

std::string TableName::quoted() const {
  return schema.empty() ? quote_identifier(table)
                        : quote_identifier(schema) + "." + quote_identifier(table);
}

bool parse_table_name(std::string_view text, TableName& name, std::string& problem) {
  const std::size_t dot = text.find('.');
  name.schema = dot == std::string_view::npos ? "" : std::string(text.substr(0, dot));
  name.table = std::string(dot == std::string_view::npos ? text : text.substr(dot + 1));
  problem = problem_of_identifier(name.table);
  if (problem.empty() && dot != std::string_view::npos)
    problem = problem_of_identifier(name.schema);
  if (problem.empty() && name.table.find('.') != std::string::npos)
    problem = "has more than one dot; write \"table\" or \"schema.table\"";
  if (problem.empty() && is_reserved_schema(name.schema))
    problem = "names schema \"" + name.schema + "\", which no effect may write to";
  return problem.empty();
}

bool is_reserved_schema(std::string_view schema) {
  return schema == "spillway" || schema == "information_schema" || schema.starts_with("pg_");
}

std::string problem_of_event_type(std::string_view event_type) {
  if (event_type.size() > event_type_bytes) return "is longer than 255 bytes";
  for (const char c : event_type)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      return "contains a control character, such as a line break";
  if (!is_utf8(event_type)) return "is not valid UTF-8";
  return {};
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    std::size_t length = 0;
    unsigned code = 0;
    unsigned least = 0;
    if (lead >= 0xc2 && lead < 0xe0)
      length = 2, code = lead & 0x1fu, least = 0x80;
    else if (lead >= 0xe0 && lead < 0xf0)
      length = 3, code = lead & 0x0fu, least = 0x800;
    else if (lead >= 0xf0 && lead < 0xf5)
      length = 4, code = lead & 0x07u, least = 0x10000;
    else
      return false;
    if (i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0u) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    i += length;
  }
  return true;
}

}  // namespace spillway
