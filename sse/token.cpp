#include "sse/token.hpp"

#include <jwt.h>
#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

namespace spillway::sse {
namespace {

using nlohmann::json;
using Jwt = std::unique_ptr<jwt_t, decltype(&jwt_free)>;

constexpr std::int64_t kYear10000 = 253402300800;

jwt_alg_t libjwt_name(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::hs256:
      return JWT_ALG_HS256;
    case Algorithm::rs256:
      return JWT_ALG_RS256;
    case Algorithm::es256:
      return JWT_ALG_ES256;
  }
  return JWT_ALG_NONE;
}

int base64url_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-') return 62;
  if (c == '_') return 63;
  return -1;
}

// Without padding, as tokens are; nullopt for anything else.
std::optional<std::string> base64url_decode(std::string_view text) {
  if (text.empty() || text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = base64url_value(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xFF);
  }
  return out;
}

// An object in which no key is given twice, at any depth: two readers of such a text might each
// take another value for it.
std::optional<json> parse_object(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  bool twice = false;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key)
      twice = !keys.back().insert(parsed.get<std::string>()).second || twice;
    return true;
  };
  json value = json::parse(text, watch, false);
  if (!value.is_object() || twice) return std::nullopt;
  return value;
}

struct Parts {
  std::string_view header;
  std::string_view claims;
  std::string_view signature;
};

std::optional<Parts> split(std::string_view token) {
  const std::size_t first = token.find('.');
  if (first == std::string_view::npos) return std::nullopt;
  const std::size_t second = token.find('.', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  return Parts{token.substr(0, first), token.substr(first + 1, second - first - 1),
               token.substr(second + 1)};
}

// The algorithm that the header names: one of those in the keys, or nothing.
bool names_algorithm(const json& header, Algorithm algorithm) {
  const auto alg = header.find("alg");
  return alg != header.end() && alg->is_string() &&
         alg->get_ref<const std::string&>() == to_string(algorithm);
}

// A JSON Web Token, if it says what it is; versions of the library differ in what they take.
bool is_of_our_kind(const json& header) {
  const auto type = header.find("typ");
  if (type == header.end()) return true;
  if (!type->is_string()) return false;
  const auto& text = type->get_ref<const std::string&>();
  return text == "JWT" || text == "jwt";
}

bool signed_with(const std::string& token, const AuthKey& key) {
  jwt_t* decoded = nullptr;
  const int failed = jwt_decode(&decoded, token.c_str(),
                                reinterpret_cast<const unsigned char*>(key.material.data()),
                                static_cast<int>(key.material.size()));
  const Jwt owner(failed == 0 ? decoded : nullptr, &jwt_free);
  ERR_clear_error();  // it is not for whoever uses OpenSSL next on this thread
  return owner && jwt_get_alg(decoded) == libjwt_name(key.algorithm);
}

// Throws std::invalid_argument for what is not a number of seconds.
std::optional<Seconds> time_claim(const json& claims, const char* name, bool round_up) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::nullopt;
  if (!found->is_number()) throw std::invalid_argument(name);
  double seconds = found->get<double>();
  if (!(std::abs(seconds) < static_cast<double>(kYear10000))) throw std::invalid_argument(name);
  seconds = round_up ? std::ceil(seconds) : std::floor(seconds);  // exact: far below 2^53
  return Seconds(std::chrono::seconds(static_cast<std::int64_t>(seconds)));
}

bool flag_claim(const json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return false;
  if (!found->is_boolean()) throw std::invalid_argument(name);
  return found->get<bool>();
}

std::variant<Claims, TokenError> read_claims(const json& claims) {
  Claims out;
  if (const auto found = claims.find("subscribe"); found != claims.end()) {
    const bool strings =
        found->is_array() &&
        std::all_of(found->begin(), found->end(), [](const json& v) { return v.is_string(); });
    if (!strings) return TokenError{"the claim subscribe is not an array of strings"};
    out.subscribe = found->get<std::vector<std::string>>();
  }
  if (const auto found = claims.find("sub"); found != claims.end()) {
    if (!found->is_string()) return TokenError{"the claim sub is not a string"};
    out.subject = found->get<std::string>();
    if (out.subject.size() > kSubjectBytes)
      return TokenError{"the claim sub has more than 255 bytes"};
  }
  try {
    out.publish = flag_claim(claims, "publish");
    out.admin = flag_claim(claims, "admin");
  } catch (const std::invalid_argument&) {
    return TokenError{"the claims publish and admin take true or false"};
  }
  try {
    out.expires = time_claim(claims, "exp", false);
    out.not_before = time_claim(claims, "nbf", true);
  } catch (const std::invalid_argument&) {
    return TokenError{"the claims exp and nbf take seconds since 1970, as a number"};
  }
  return out;
}

}  // namespace

std::variant<Claims, TokenError> verify_token(std::string_view token,
                                              const std::vector<AuthKey>& keys, Seconds now) {
  auto read = read_token(token, keys);
  if (const auto* claims = std::get_if<Claims>(&read))
    if (const auto wrong = problem_of_time(*claims, now)) return *wrong;
  return read;
}

std::optional<TokenError> problem_of_time(const Claims& claims, Seconds now) {
  if (claims.expires && now >= *claims.expires) return TokenError{"the token has expired"};
  if (claims.not_before && now < *claims.not_before)
    return TokenError{"the token is not valid yet"};
  return std::nullopt;
}

std::variant<Claims, TokenError> read_token(std::string_view token,
                                            const std::vector<AuthKey>& keys) {
  if (token.size() > kTokenBytes) return TokenError{"the token has more than 4096 bytes"};
  const auto parts = split(token);
  if (!parts) return TokenError{"the token is not a JSON Web Token"};
  const auto header_text = base64url_decode(parts->header);
  const auto claims_text = base64url_decode(parts->claims);
  if (!header_text || !claims_text || !base64url_decode(parts->signature))
    return TokenError{"the token is not a signed JSON Web Token"};
  const auto header = parse_object(*header_text);
  if (!header) return TokenError{"the header of the token is not a JSON object"};
  // By the rules of JWS an extension that must be understood and is not ends it.
  if (header->contains("crit")) return TokenError{"the header of the token asks for an extension"};
  if (!is_of_our_kind(*header))
    return TokenError{"the header of the token has another typ than JWT"};
  const std::string text(token);
  bool known_algorithm = false;
  const bool genuine = std::any_of(keys.begin(), keys.end(), [&](const AuthKey& key) {
    if (!names_algorithm(*header, key.algorithm)) return false;
    known_algorithm = true;
    return signed_with(text, key);
  });
  if (!known_algorithm)
    return TokenError{"the token names another algorithm than the keys of this server are for"};
  if (!genuine) return TokenError{"the token is not signed with a key of this server"};

  const auto claims = parse_object(*claims_text);
  if (!claims) return TokenError{"the claims are not a JSON object, or one is given twice"};
  return read_claims(*claims);
}

std::string sign_token(const Claims& claims, const AuthKey& key) {
  json body = json::object();
  if (!claims.subscribe.empty()) body["subscribe"] = claims.subscribe;
  if (claims.publish) body["publish"] = true;
  if (claims.admin) body["admin"] = true;
  if (!claims.subject.empty()) body["sub"] = claims.subject;
  if (claims.expires) body["exp"] = claims.expires->time_since_epoch().count();
  if (claims.not_before) body["nbf"] = claims.not_before->time_since_epoch().count();

  jwt_t* made = nullptr;
  if (jwt_new(&made) != 0) throw std::bad_alloc();
  const Jwt jwt(made, &jwt_free);
  // The library keeps and frees a copy of its own.
  const bool ready = jwt_add_grants_json(made, body.dump().c_str()) == 0 &&
                     jwt_set_alg(made, libjwt_name(key.algorithm),
                                 reinterpret_cast<const unsigned char*>(key.material.data()),
                                 static_cast<int>(key.material.size())) == 0;
  const std::unique_ptr<char, decltype(&std::free)> text(ready ? jwt_encode_str(made) : nullptr,
                                                         &std::free);
  ERR_clear_error();
  if (!text) throw AuthKeyError("the token cannot be signed with this key");
  std::string token(text.get());
  if (token.size() > kTokenBytes)
    throw std::length_error("the token would have " + std::to_string(token.size()) +
                            " bytes, more than the " + std::to_string(kTokenBytes) +
                            " that a server takes; grant fewer patterns");
  return token;
}

}  // namespace spillway::sse
