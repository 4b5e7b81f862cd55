#include "processor/line_diff.hpp"

#include <algorithm>
#include <cstddef>
#include <sstream>
#include <vector>

namespace spillway {
namespace {

constexpr std::size_t context_lines = 2;
constexpr std::size_t largest_table =
    4'000'000;  // cells; larger texts are shown one after the other

struct Line {
  char mark;
  std::string text;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The longest common subsequence stays, the rest goes or comes.
std::vector<Line> compare(const std::vector<std::string>& before,
                          const std::vector<std::string>& after) {
  const std::size_t rows = before.size();
  const std::size_t columns = after.size();
  std::vector<Line> lines;
  if (rows * columns > largest_table) {
    for (const auto& text : before) lines.push_back({'-', text});
    for (const auto& text : after) lines.push_back({'+', text});
    return lines;
  }
  const auto at = [columns](std::size_t row, std::size_t column) {
    return row * (columns + 1) + column;
  };
  std::vector<std::size_t> length((rows + 1) * (columns + 1), 0);
  for (std::size_t row = rows; row-- > 0;)
    for (std::size_t column = columns; column-- > 0;)
      length[at(row, column)] =
          before[row] == after[column]
              ? length[at(row + 1, column + 1)] + 1
              : std::max(length[at(row + 1, column)], length[at(row, column + 1)]);
  std::size_t row = 0;
  std::size_t column = 0;
  while (row < rows || column < columns) {
    if (row < rows && column < columns && before[row] == after[column]) {
      lines.push_back({' ', before[row]});
      ++row;
      ++column;
    } else if (column == columns ||
               (row < rows && length[at(row + 1, column)] >= length[at(row, column + 1)])) {
      lines.push_back({'-', before[row++]});
    } else {
      lines.push_back({'+', after[column++]});
    }
  }
  return lines;
}

}  // namespace

std::string line_diff(const std::string& expected, const std::string& actual) {
  if (expected == actual) return {};
  const std::vector<Line> lines = compare(lines_of(expected), lines_of(actual));
  std::vector<bool> shown(lines.size(), false);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].mark == ' ') continue;
    const std::size_t first = i < context_lines ? 0 : i - context_lines;
    for (std::size_t k = first; k <= std::min(i + context_lines, lines.size() - 1); ++k)
      shown[k] = true;
  }
  std::string text;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (shown[i])
      text += std::string(1, lines[i].mark) + " " + lines[i].text + "\n";
    else if (i == 0 || shown[i - 1])
      text += "  …\n";
  }
  return text;
}

}  // namespace spillway
