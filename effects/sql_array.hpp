// An array as a statement's parameter, in PostgreSQL's binary form: nothing is quoted here and
// nothing unquoted there. A session that can send only text asks for text(). A value; no errors.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

class SqlArray {
 public:
  // The oids are fixed (pg_type.dat). The statement must declare the parameter as such an array.
  enum class Of : std::uint32_t { bigints = 20, texts = 25, jsons = 114 };

  explicit SqlArray(Of type) : type_(type) {
    integer(1);  // dimensions
    integer(0);  // no nulls
    integer(static_cast<std::uint32_t>(type));
    integer(0);  // elements
    integer(1);  // number of the first
  }

  void add(std::string_view element) {
    count();
    integer(static_cast<std::uint32_t>(element.size()));
    bytes_ += element;
  }
  void add(std::int64_t element) {
    count();
    integer(8);
    integer(static_cast<std::uint32_t>(static_cast<std::uint64_t>(element) >> 32));
    integer(static_cast<std::uint32_t>(static_cast<std::uint64_t>(element)));
  }
  void add_null() {
    count();
    integer(null);
    put(nulls_at, 1);
  }

  void reserve(std::size_t bytes) { bytes_.reserve(bytes); }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] const std::string& binary() const { return bytes_; }

  // As a literal: {"a","b",NULL}.
  [[nodiscard]] std::string text() const {
    std::string literal = "{";
    for (std::size_t at = first; at < bytes_.size();) {
      if (at != first) literal += ',';
      const std::uint32_t length = get(at);
      at += 4;
      if (length == null) {
        literal += "NULL";
        continue;
      }
      if (type_ == Of::bigints) {
        const auto number = static_cast<std::int64_t>(std::uint64_t{get(at)} << 32 | get(at + 4));
        char digits[24];
        literal.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
      } else {
        literal += '"';
        for (const char c : std::string_view(bytes_).substr(at, length)) {
          if (c == '"' || c == '\\') literal += '\\';
          literal += c;
        }
        literal += '"';
      }
      at += length;
    }
    return literal += '}';
  }

 private:
  static constexpr std::uint32_t null = 0xffffffff;
  static constexpr std::size_t nulls_at = 4, count_at = 12, first = 20;

  void count() { put(count_at, ++count_); }
  void put(std::size_t at, std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes_[at++] = static_cast<char>(value >> shift);
  }
  void integer(std::uint32_t value) {
    const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                           static_cast<char>(value >> 8), static_cast<char>(value)};
    bytes_.append(bytes, 4);
  }
  [[nodiscard]] std::uint32_t get(std::size_t at) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i)
      value = value << 8 | static_cast<unsigned char>(bytes_[at + i]);
    return value;
  }

  Of type_;
  std::uint32_t count_ = 0;
  std::string bytes_;
};

}  // namespace spillway
