// Tokens: JSON Web Tokens that say what their holder may do. Pure functions, any thread.
//
// Nothing of a token is ever part of an error's text. What is not exactly as it should be is
// refused, not guessed: a claim of the wrong type, a key given twice, a header that asks for
// another algorithm than the keys are for.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sse/auth_key.hpp"

namespace spillway::sse {

using Seconds = std::chrono::sys_seconds;

// What fits into one cookie.
inline constexpr std::size_t kTokenBytes = 4096;
inline constexpr std::size_t kSubjectBytes = 255;

struct Claims {
  std::vector<std::string> subscribe;  // grants, see channel_pattern.hpp
  bool publish = false;
  bool admin = false;
  std::optional<Seconds> expires;     // `exp`: from then on it is worth nothing; none: for ever
  std::optional<Seconds> not_before;  // `nbf`
  std::string subject;                // `sub`, at most kSubjectBytes

  bool operator==(const Claims&) const = default;
};

struct TokenError {
  std::string_view why;  // static text, without quotes
};

// A token that any of the keys has signed and that is valid at `now`. Fractions of a second count
// against the token. Times outside of the years up to 9999 are refused: they are milliseconds.
[[nodiscard]] std::variant<Claims, TokenError> verify_token(std::string_view token,
                                                            const std::vector<AuthKey>& keys,
                                                            Seconds now);

// The two halves of it: signature and claims, which stay as they are, and the time.
[[nodiscard]] std::variant<Claims, TokenError> read_token(std::string_view token,
                                                          const std::vector<AuthKey>& keys);
[[nodiscard]] std::optional<TokenError> problem_of_time(const Claims& claims, Seconds now);

// Throws AuthKeyError when the key cannot sign, std::length_error when the token is too long.
[[nodiscard]] std::string sign_token(const Claims& claims, const AuthKey& key);

}  // namespace spillway::sse
