// Turns effects that write rows of users' tables into writes: checks names against the catalogue,
// builds the statement of each shape once, and the row objects.
//
// One session, one thread. Shapes are remembered up to a bound, because column sets come from
// payloads. Errors: EffectError (the effect is wrong), SqlError, ConnectionLost.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "effects/sql.hpp"
#include "effects/table_catalog.hpp"
#include "effects/write_group.hpp"
#include "spillway/effect.hpp"

namespace spillway {

class WriteCompiler {
 public:
  explicit WriteCompiler(SqlSession& session, bool as_json = false);

  void compile(const Insert& effect, std::size_t index, std::vector<Write>& writes);
  void compile(const Upsert& effect, std::size_t index, std::vector<Write>& writes);
  void compile(const Update& effect, std::size_t index, std::vector<Write>& writes);
  void compile(const Delete& effect, std::size_t index, std::vector<Write>& writes);

  void forget_schema();

 private:
  using Shape = std::shared_ptr<const WriteShape>;

  // The shape remembered under key_; else what `check` lets pass and `make` makes of the table.
  template <typename Check, typename Make>
  const Shape& shape(const std::string& table, const char* label, Check&& check, Make&& make);
  // Names every column of `row` that the table does not have; looks the table up anew first.
  std::shared_ptr<const Table> table_with(const std::string& name,
                                          const std::vector<const json*>& rows, std::size_t index,
                                          const char* kind, const char* field);
  // Calls write_of(row) for the row, or each of the rows, in `data`.
  template <typename WriteOf>
  void compile_rows(const json& data, std::size_t index, const char* kind,
                    std::vector<Write>& writes, WriteOf&& write_of);
  void key_name(char mark, std::string_view name);
  void key_of(char kind, const std::string& table);
  void key_add(const json& row, bool null_matters);

  SqlSession& session_;
  const bool as_json_;
  TableCatalog catalog_;
  std::unordered_map<std::string, Shape> shapes_;
  std::string key_;  // scratch for the look-up of shapes
};

}  // namespace spillway
