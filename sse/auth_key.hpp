// Keys that tokens are signed and verified with. Which algorithm a key serves follows from the key
// alone, never from a token: a secret is HS256, an RSA key RS256, an EC key on P-256 ES256.
//
// The functions are pure but for reading the file; KeyRing is thread-safe. Errors: AuthKeyError,
// whose text names no part of the key and says what to write instead.
#pragma once

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace spillway::sse {

class AuthKeyError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Algorithm { hs256, rs256, es256 };

[[nodiscard]] std::string_view to_string(Algorithm algorithm);  // as in a token: "HS256"

struct AuthKey {
  Algorithm algorithm = Algorithm::hs256;
  std::string material;  // the secret, or one key as PEM
};

// From a key file's text: a secret (32 bytes at least, one newline at the end is not part of it),
// or a public key as PEM (RSA of 2048 bits at least, EC on P-256). Private keys are refused: a
// server that holds none cannot lose one.
[[nodiscard]] AuthKey verification_key(std::string_view text);
// The same secret, or the private key.
[[nodiscard]] AuthKey signing_key(std::string_view text);

// A regular file of at most 64 KiB.
[[nodiscard]] std::string read_key_file(const std::string& path);

// The keys in force, which a reload replaces as a whole.
class KeyRing {
 public:
  using Keys = std::shared_ptr<const std::vector<AuthKey>>;

  explicit KeyRing(std::vector<AuthKey> keys) { replace(std::move(keys)); }

  [[nodiscard]] Keys current() const {
    const std::scoped_lock lock(mutex_);
    return keys_;
  }
  void replace(std::vector<AuthKey> keys) {
    auto fresh = std::make_shared<const std::vector<AuthKey>>(std::move(keys));
    const std::scoped_lock lock(mutex_);
    keys_ = std::move(fresh);
  }

 private:
  mutable std::mutex mutex_;
  Keys keys_;
};

}  // namespace spillway::sse
