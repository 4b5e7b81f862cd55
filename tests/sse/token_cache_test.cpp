// What is remembered of tokens, for how long, and how much of it.
#include "sse/token_cache.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tests/sse/keys.hpp"

namespace spillway::sse::test {
namespace {

Seconds at(std::int64_t seconds) {
  return Seconds(std::chrono::seconds(seconds));
}

bool good(TokenCache& cache, const KeyRing& keys, const std::string& token, std::int64_t now = 5) {
  return std::holds_alternative<Claims>(cache.verify(token, keys.current(), at(now)));
}

TEST(TokenCache, TimesAreLookedAtEachTime) {
  const KeyRing keys({verification_key(kSecret)});
  TokenCache cache;
  const std::string some = token(R"({"nbf":10,"exp":20,"sub":"ann"})");
  EXPECT_FALSE(good(cache, keys, some, 9));
  EXPECT_TRUE(good(cache, keys, some, 10));
  EXPECT_TRUE(good(cache, keys, some, 19));
  EXPECT_FALSE(good(cache, keys, some, 20));
  EXPECT_FALSE(good(cache, keys, some, 9));
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(std::get<Claims>(cache.verify(some, keys.current(), at(15))).subject, "ann");
}

TEST(TokenCache, NewKeysBeginAnew) {
  KeyRing keys({verification_key(kSecret)});
  TokenCache cache;
  const std::string some = token("{}");
  EXPECT_TRUE(good(cache, keys, some));
  keys.replace({verification_key(std::string(32, 'n'))});
  EXPECT_FALSE(good(cache, keys, some));
  keys.replace({verification_key(kSecret)});
  EXPECT_TRUE(good(cache, keys, some));
}

TEST(TokenCache, WhatIsRefusedIsNotKept) {
  const KeyRing keys({verification_key(kSecret)});
  TokenCache cache;
  for (const std::string& bad : {std::string(), std::string("a.b.c"), token(R"({"sub":1})"),
                                 std::string(5000, 'x'), token("{}") + "x"})
    EXPECT_FALSE(good(cache, keys, bad));
  EXPECT_EQ(cache.size(), 0u);
}

TEST(TokenCache, IsBounded) {
  const KeyRing keys({verification_key(kSecret)});
  TokenCache cache;
  for (std::size_t i = 0; i < 3 * TokenCache::kHalf; ++i) {
    ASSERT_TRUE(good(cache, keys, token(R"({"sub":")" + std::to_string(i) + R"("})")));
    ASSERT_LE(cache.size(), 2 * TokenCache::kHalf);
  }
  EXPECT_GE(cache.size(), TokenCache::kHalf);
}

}  // namespace
}  // namespace spillway::sse::test
