// What is wrong with an effect, so that its author can find it: index in the list, kind, field.
// Nothing a retry can mend.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace spillway {

class EffectError : public std::runtime_error {
 public:
  // "effect 2 (SSEBroadcast), field "channel": must be a string, not a number"
  EffectError(std::size_t index, std::string_view kind, std::string_view field,
              std::string_view problem)
      : std::runtime_error(compose(index, kind, field, problem)), index_(index) {}

  // The list itself is wrong.
  explicit EffectError(const std::string& problem) : std::runtime_error(problem) {}

  [[nodiscard]] std::size_t index() const { return index_; }

 private:
  static std::string compose(std::size_t index, std::string_view kind, std::string_view field,
                             std::string_view problem) {
    std::string text = "effect " + std::to_string(index);
    if (!kind.empty()) text.append(" (").append(kind).append(")");
    if (!field.empty()) text.append(", field \"").append(field).append("\"");
    return text.append(": ").append(problem);
  }

  std::size_t index_ = 0;
};

}  // namespace spillway
