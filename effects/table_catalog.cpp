#include "effects/table_catalog.hpp"

#include <stdexcept>

#include "effects/names.hpp"

namespace spillway {
namespace {

const Statement find_table{"sw_find_table", R"(
SELECT c.oid, n.nspname, c.relname, a.attname, NULL::oid AS parent,
       EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
       OR c.relhasrules
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'f')
UNION ALL
SELECT f.conrelid, NULL, NULL, NULL, f.confrelid, NULL
FROM pg_catalog.pg_constraint f
WHERE f.conrelid = pg_catalog.to_regclass($1) AND f.contype = 'f' AND f.confrelid <> f.conrelid)"};

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
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!rows.is_null(row, 4)) {
      table->parents.insert(rows.integer<std::uint32_t>(row, 4));
      continue;
    }
    table->oid = rows.integer<std::uint32_t>(row, 0);
    table->schema = rows.string(row, 1);
    table->name = rows.string(row, 2);
    table->columns.insert(rows.string(row, 3));
    table->has_triggers = rows.boolean(row, 5);
  }
  // The search_path may lead to a reserved schema without its being named.
  if (is_reserved_schema(table->schema))
    throw std::invalid_argument("is a table of schema \"" + table->schema +
                                "\", which no effect may write to");
  table->quoted = TableName{table->schema, table->name}.quoted();
  tables_.emplace(name, table);
  return table;
}

}  // namespace spillway
