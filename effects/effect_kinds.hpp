// Kinds of effects: their names, sets and counts of them, by Effect::index(). Pure and thread-safe.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "spillway/effect.hpp"

namespace spillway {

inline constexpr std::size_t effect_kind_count = std::variant_size_v<Effect>;

using EffectCounts = std::array<std::size_t, effect_kind_count>;

// "Insert", "Upsert", …
[[nodiscard]] const std::array<std::string_view, effect_kind_count>& effect_kind_names();
[[nodiscard]] std::optional<std::size_t> effect_kind(std::string_view name);
// All of them, for messages: "Insert, Upsert, …"
[[nodiscard]] std::string effect_kind_list();

class EffectKinds {
 public:
  static EffectKinds none() { return {}; }
  static EffectKinds all() {
    EffectKinds kinds;
    kinds.bits_.set();
    return kinds;
  }

  [[nodiscard]] bool contains(std::size_t kind) const { return bits_.test(kind); }
  void insert(std::size_t kind) { bits_.set(kind); }
  void erase(std::size_t kind) { bits_.reset(kind); }

  bool operator==(const EffectKinds&) const = default;

 private:
  std::bitset<effect_kind_count> bits_;
};

}  // namespace spillway
