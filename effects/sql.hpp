// The little of SQL that effects and stores need, with the database library kept out of sight: the
// processor implements it over libpqxx (processor/pg_connection).
//
// One session, one thread. Errors are exceptions: SqlError when the server refused a statement,
// ConnectionLost when the session is gone and its outcome unknown.
//
// Statements that are sent share a round trip: the answer of each is handed to its callback during
// finish(), or during the next run() or exec(), in order. When one of them is refused nothing
// behind it is carried out, a COMMIT neither, and the call that waits throws its error; callbacks
// behind it are not called. What a callback writes to must live until then, also when something
// else throws in between. A session that cannot do this carries each statement out as it is sent.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "effects/sql_array.hpp"

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

// Zero-terminated text, nullptr for NULL; or an array. Nothing is copied: what it points to must
// live until the statement was run or sent.
class Parameter {
 public:
  Parameter(const char* text) : text_(text) {}
  Parameter(const SqlArray& array) : array_(&array) {}

  [[nodiscard]] const char* text() const { return text_; }
  [[nodiscard]] const SqlArray* array() const { return array_; }  // or nullptr

 private:
  const char* text_ = nullptr;
  const SqlArray* array_ = nullptr;
};

class SqlSession {
 public:
  virtual ~SqlSession() = default;

  virtual Rows run(const Statement& statement, std::span<const Parameter> parameters) = 0;

  // One or more statements without parameters in one round trip; the rows of the last one.
  virtual Rows exec(const std::string& sql) = 0;

  // Gives up the prepared form of a statement, if it has one.
  virtual void forget(const Statement& statement) = 0;

  using Answer = std::function<void(const Rows&)>;

  // Like run() and exec() of one statement, without waiting for the answer.
  virtual void send(const Statement& statement, std::span<const Parameter> parameters,
                    Answer answer) {
    const Rows rows = run(statement, parameters);
    if (answer) answer(rows);
  }
  virtual void send_exec(const std::string& sql) { exec(sql); }

  // Waits for the answers of all that was sent.
  virtual void finish() {}

  void send(const Statement& statement, std::initializer_list<Parameter> parameters,
            Answer answer = {}) {
    send(statement, std::span<const Parameter>(parameters.begin(), parameters.size()),
         std::move(answer));
  }

  Rows run(const Statement& statement) { return run(statement, std::span<const Parameter>{}); }
  Rows run(const Statement& statement, std::initializer_list<Parameter> parameters) {
    return run(statement, std::span<const Parameter>(parameters.begin(), parameters.size()));
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
