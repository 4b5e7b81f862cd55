#include "sse/token_cache.hpp"

#include <openssl/evp.h>

#include <utility>

namespace spillway::sse {
namespace {

// Empty when it cannot be made.
std::string digest_of(std::string_view text) {
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(digest.data()), &size,
                 EVP_sha256(), nullptr) != 1)
    size = 0;
  digest.resize(size);
  return digest;
}

}  // namespace

const Claims* TokenCache::find(const std::string& digest) {
  if (const auto found = younger_.find(digest); found != younger_.end()) return &found->second;
  const auto found = older_.find(digest);
  if (found == older_.end()) return nullptr;
  return &(younger_[digest] = std::move(older_.extract(found).mapped()));
}

std::variant<Claims, TokenError> TokenCache::verify(std::string_view token,
                                                    const KeyRing::Keys& keys, Seconds now) {
  if (keys != keys_) {
    keys_ = keys;
    younger_.clear();
    older_.clear();
  }
  if (token.size() > kTokenBytes) return verify_token(token, *keys, now);  // says so
  const std::string digest = digest_of(token);
  if (digest.empty()) return verify_token(token, *keys, now);
  const Claims* known = find(digest);
  if (known == nullptr) {
    auto read = read_token(token, *keys);
    if (std::holds_alternative<TokenError>(read)) return read;
    known = &(younger_[digest] = std::get<Claims>(std::move(read)));
  }
  std::variant<Claims, TokenError> answer = *known;
  if (const auto wrong = problem_of_time(*known, now)) answer = *wrong;
  if (younger_.size() >= kHalf) {
    older_ = std::move(younger_);
    younger_.clear();
  }
  return answer;
}

}  // namespace spillway::sse
