#include "processor/declared_reads.hpp"

#include <utility>

#include "processor/event_json.hpp"

namespace spillway {

const Statement& DeclaredReads::statement(const std::string& select) {
  const auto known = statements_.find(select);
  if (known != statements_.end()) return known->second;
  std::string text = select;
  while (!text.empty() && (text.back() == ';' || text.back() == ' ' || text.back() == '\n' ||
                           text.back() == '\r' || text.back() == '\t'))
    text.pop_back();
  // As a subquery it can be nothing but one SELECT; the line break ends a comment on its last line.
  Statement made{
      "sw_read_" + std::to_string(statements_.size() + 1),
      "SELECT coalesce(r.data, '[]') FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY"
      " AS item(event, number) CROSS JOIN LATERAL (SELECT jsonb_agg(to_jsonb(q)) AS data"
      " FROM (\n" +
          text + "\n) q) r ORDER BY item.number"};
  return statements_.emplace(select, std::move(made)).first->second;
}

void DeclaredReads::check(const std::string& select) {
  session_.run(statement(select), {"[]"});
}

std::vector<json> DeclaredReads::read(const std::string& select,
                                      const std::vector<const Event*>& events) {
  std::string array = "[";
  for (const Event* event : events) {
    if (array.size() > 1) array += ',';
    array += to_json(*event).dump();
  }
  array += ']';
  const Rows rows = session_.run(statement(select), {array.c_str()});
  std::vector<json> data;
  data.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row)
    data.push_back(json::parse(rows.text(row, 0)));
  return data;
}

}  // namespace spillway
