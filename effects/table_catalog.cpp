#include "effects/table_catalog.hpp"

#include <stdexcept>

#include "effects/names.hpp"

namespace spillway {
namespace {

const Statement find_table{"sw_find_table", R"(
SELECT c.oid, n.nspname, c.relname, a.attname, format_type(a.atttypid, NULL),
       c.relkind IN ('v', 'f') OR c.relhasrules
       OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'f'))"};

const Statement find_keys{"sw_find_keys", R"(
SELECT i.indexrelid, a.attname
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) AS k(attnum)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS e(attnum)
                  JOIN pg_catalog.pg_attribute n ON n.attrelid = i.indrelid AND n.attnum = e.attnum
                  WHERE NOT n.attnotnull)
ORDER BY i.indexrelid)"};

// A write may reach all of these: by cascades, by checks, or because they hold the same rows. Any
// of them with triggers makes the whole family opaque.
const Statement find_family{"sw_find_family", R"(
WITH RECURSIVE tie AS (
  SELECT conrelid AS a, confrelid AS b FROM pg_catalog.pg_constraint WHERE contype = 'f'
  UNION ALL SELECT confrelid, conrelid FROM pg_catalog.pg_constraint WHERE contype = 'f'
  UNION ALL SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
  UNION ALL SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits
), family AS (
  SELECT $1::oid AS oid
  UNION SELECT tie.b FROM family JOIN tie ON tie.a = family.oid
)
SELECT family.oid,
       EXISTS (SELECT FROM pg_catalog.pg_trigger t
               WHERE t.tgrelid = family.oid AND NOT t.tgisinternal)
FROM family)"};

}  // namespace

std::shared_ptr<const Table> TableCatalog::find(const std::string& name) {
  const auto known = tables_.find(name);
  if (known != tables_.end()) return known->second;

  TableName parsed;
  std::string problem;
  if (!parse_table_name(name, parsed, problem)) throw std::invalid_argument(problem);
  const Rows rows = session_.run(find_table, {parsed.quoted().c_str()});
  if (rows.empty()) return nullptr;

  auto table = std::make_shared<Table>();
  table->oid = rows.integer<std::uint32_t>(0, 0);
  table->schema = rows.string(0, 1);
  table->name = rows.string(0, 2);
  table->opaque = rows.boolean(0, 5);
  for (std::size_t row = 0; row < rows.size(); ++row)
    table->columns.emplace(rows.string(row, 3), rows.string(row, 4));
  // The search_path may lead to a reserved schema without its being named.
  if (is_reserved_schema(table->schema))
    throw std::invalid_argument("is a table of schema \"" + table->schema +
                                "\", which no effect may write to");
  table->quoted = TableName{table->schema, table->name}.quoted();

  const std::string oid = std::to_string(table->oid);
  const Rows keys = session_.run(find_keys, {oid.c_str()});
  for (std::size_t row = 0; row < keys.size(); ++row) {
    if (row == 0 || keys.text(row, 0) != keys.text(row - 1, 0)) table->keys.emplace_back();
    table->keys.back().push_back(keys.string(row, 1));
  }
  const Rows family = session_.run(find_family, {oid.c_str()});
  for (std::size_t row = 0; row < family.size(); ++row) {
    table->family.insert(family.integer<std::uint32_t>(row, 0));
    table->opaque = table->opaque || family.boolean(row, 1);
  }
  tables_.emplace(name, table);
  return table;
}

}  // namespace spillway
