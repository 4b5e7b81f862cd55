// JSON values on their way into libjq and out of it, without a detour through text.
//
// A Jv owns one reference to a libjq value. libjq counts references without atomics, so a value
// belongs to one thread. Errors: EffectError for values that are nested too deep.
#pragma once

extern "C" {
#include <jv.h>
}

#include <nlohmann/json.hpp>
#include <utility>

namespace spillway {

class Jv {
 public:
  explicit Jv(jv value) : value_(value) {}
  ~Jv() { jv_free(value_); }
  Jv(Jv&& other) noexcept : value_(std::exchange(other.value_, jv_null())) {}
  Jv& operator=(Jv&&) = delete;
  Jv(const Jv&) = delete;
  Jv& operator=(const Jv&) = delete;

  [[nodiscard]] jv get() const { return value_; }  // borrowed
  [[nodiscard]] jv copy() const { return jv_copy(value_); }
  [[nodiscard]] jv release() { return std::exchange(value_, jv_null()); }
  void reset(jv value) { jv_free(std::exchange(value_, value)); }
  [[nodiscard]] jv_kind kind() const { return jv_get_kind(value_); }

 private:
  jv value_;
};

// Numbers become doubles, which is all jq has; bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] Jv to_jv(const nlohmann::json& value);

// Whole numbers become integers, so that they fit integer columns; not-a-number becomes null and
// infinity the largest double, as jq prints them.
[[nodiscard]] nlohmann::json from_jv(const Jv& value);

}  // namespace spillway
