// The little of SQL that effects and stores need, with the database library kept out of sight: the
// processor implements it over libpqxx (processor/pg_connection).
//
// One session, one thread. Errors are exceptions: SqlError when the server refused a statement,
// ConnectionLost when the session is gone and its outcome unknown.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace spillway {

class SqlError : public std::runtime_error {
 public:
  SqlError(std::string sqlstate, const std::string& message)
      : std::runtime_error(message), sqlstate_(std::move(sqlstate)) {}
  [[nodiscard]] const std::string& sqlstate() const { return sqlstate_; }

 private:
  std::string sqlstate_;  // five characters
};

class ConnectionLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Rows of a result, as text. Views live as long as the Rows they came from.
class Rows {
 public:
  class Source {
   public:
    virtual ~Source() = default;
    [[nodiscard]] virtual std::size_t size() const = 0;
    [[nodiscard]] virtual bool is_null(std::size_t row, std::size_t column) const = 0;
    [[nodiscard]] virtual std::string_view text(std::size_t row, std::size_t column) const = 0;
    [[nodiscard]] virtual std::size_t affected() const { return 0; }
  };

  Rows() = default;
  explicit Rows(std::unique_ptr<const Source> source) : source_(std::move(source)) {}

  [[nodiscard]] std::size_t size() const { return source_ ? source_->size() : 0; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  // Rows that the statement wrote, if it was one that writes.
  [[nodiscard]] std::size_t affected() const { return source_ ? source_->affected() : 0; }
  [[nodiscard]] bool is_null(std::size_t row, std::size_t column) const {
    return source_->is_null(row, column);
  }
  [[nodiscard]] std::string_view text(std::size_t row, std::size_t column) const {
    return source_->text(row, column);
  }
  [[nodiscard]] std::string string(std::size_t row, std::size_t column) const {
    return std::string(source_->text(row, column));
  }
  [[nodiscard]] bool boolean(std::size_t row, std::size_t column) const {
    return source_->text(row, column) == "t";
  }
  // A column that the query guarantees to be an integer; null counts as 0.
  template <typename Int = std::int64_t>
  [[nodiscard]] Int integer(std::size_t row, std::size_t column) const {
    Int value{};
    const std::string_view digits = source_->text(row, column);
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  }

 private:
  std::unique_ptr<const Source> source_;
};

// A statement that is worth preparing has a name; the same name always means the same text.
struct Statement {
  std::string name;
  std::string text;
};

class SqlSession {
 public:
  virtual ~SqlSession() = default;

  // Parameters are zero-terminated text, nullptr is NULL.
  virtual Rows run(const Statement& statement, std::span<const char* const> parameters) = 0;

  // One or more statements without parameters in one round trip; the rows of the last one.
  virtual Rows exec(const std::string& sql) = 0;

  // Gives up the prepared form of a statement, if it has one.
  virtual void forget(const Statement& statement) = 0;

  Rows run(const Statement& statement) { return run(statement, std::span<const char* const>{}); }
  Rows run(const Statement& statement, std::initializer_list<const char*> parameters) {
    return run(statement, std::span<const char* const>(parameters.begin(), parameters.size()));
  }
};

// Appends one element to a PostgreSQL array literal that was begun with "{".
inline void append_array_element(std::string& array, std::string_view element) {
  if (array.size() > 1) array += ',';
  array += '"';
  for (const char c : element) {
    if (c == '"' || c == '\\') array += '\\';
    array += c;
  }
  array += '"';
}

inline void append_array_element(std::string& array, std::int64_t element) {
  if (array.size() > 1) array += ',';
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, element);
  array.append(digits, static_cast<std::size_t>(end.ptr - digits));
}

// An array literal of the integers of a range.
template <typename Range>
std::string integer_array(const Range& range) {
  std::string array = "{";
  for (const auto value : range) append_array_element(array, static_cast<std::int64_t>(value));
  return array += '}';
}

}  // namespace spillway
