// Tokens: what is taken, what is refused, and that nothing of a token gets into a refusal.
#include "sse/token.hpp"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include <random>
#include <string>
#include <vector>

#include "tests/sse/keys.hpp"

namespace spillway::sse::test {
namespace {

Seconds at(std::int64_t seconds) {
  return Seconds(std::chrono::seconds(seconds));
}
const Seconds kNow = at(1'700'000'000);

const std::vector<AuthKey>& secret_key() {
  static const std::vector<AuthKey> keys{verification_key(kSecret)};
  return keys;
}

std::string why(std::string_view token, const std::vector<AuthKey>& keys = secret_key(),
                Seconds now = kNow) {
  const auto verified = verify_token(token, keys, now);
  EXPECT_EQ(ERR_peek_error(), 0u);
  const auto* error = std::get_if<TokenError>(&verified);
  return error != nullptr ? std::string(error->why) : "taken";
}

Claims claims_of(std::string_view token, const std::vector<AuthKey>& keys = secret_key()) {
  const auto verified = verify_token(token, keys, kNow);
  if (const auto* error = std::get_if<TokenError>(&verified)) ADD_FAILURE() << error->why;
  return std::get<Claims>(verified);
}

TEST(Token, ClaimsAreRead) {
  EXPECT_EQ(claims_of(token(R"({"subscribe":["A:1","B:*"],"publish":true,"admin":false,)"
                            R"("exp":1700000001,"nbf":1700000000,"sub":"ann","iat":1,"x":{}})")),
            (Claims{{"A:1", "B:*"}, true, false, at(1'700'000'001), at(1'700'000'000), "ann"}));
  EXPECT_EQ(claims_of(token("{}")), Claims{});
}

TEST(Token, WhatIsSignedIsVerifiedWithTheKeyThatBelongsToIt) {
  const Claims claims{{"A:*", "é\"\\"}, true, true, kNow + std::chrono::hours(1), kNow, "ann"};
  const KeyPair rsa = rsa_pair();
  const KeyPair ec = ec_pair();
  const KeyPair other_rsa = rsa_pair();
  const KeyPair other_ec = ec_pair();
  const std::vector<std::pair<std::string, std::string>> pairs{
      {std::string(kSecret), std::string(kSecret)},
      {rsa.private_pem, rsa.public_pem},
      {ec.private_pem, ec.public_pem}};
  const std::vector<AuthKey> others{verification_key(std::string(40, 'o')),
                                    verification_key(other_rsa.public_pem),
                                    verification_key(other_ec.public_pem)};
  for (const auto& [mine, theirs] : pairs) {
    const AuthKey key = signing_key(mine);
    const std::string signed_token = sign_token(claims, key);
    EXPECT_EQ(claims_of(signed_token, {verification_key(theirs)}), claims);
    EXPECT_EQ(why(signed_token, others), "the token is not signed with a key of this server");
    auto rotating = others;
    rotating.push_back(verification_key(theirs));
    EXPECT_EQ(claims_of(signed_token, rotating), claims);
    EXPECT_NE(why(signed_token, {}), "taken");
    // Another byte of the signature or of the claims.
    for (const std::size_t place : {signed_token.find('.') + 5, signed_token.rfind('.') + 9}) {
      std::string forged = signed_token;
      forged[place] = forged[place] == 'A' ? 'B' : 'A';
      EXPECT_NE(why(forged, {verification_key(theirs)}), "taken");
    }
  }
}

TEST(Token, TheHeaderDoesNotChooseTheAlgorithm) {
  const std::string body = base64url(R"({"subscribe":["*"]})");
  for (const char* header :
       {R"({"alg":"none"})", R"({"alg":"None"})", R"({"alg":"NONE","typ":"JWT"})", R"({"alg":""})",
        R"({"alg":null})", R"({})", R"({"typ":"JWT"})", R"({"alg":0})", R"({"alg":["HS256"]})"}) {
    const std::string unsigned_token = base64url(header) + "." + body + ".";
    EXPECT_NE(why(unsigned_token), "taken") << header;
    EXPECT_NE(why(raw_token(header, R"({"subscribe":["*"]})", kSecret)), "taken") << header;
    EXPECT_NE(why(raw_token(header, R"({"subscribe":["*"]})", "")), "taken") << header;
  }
  for (const char* alg : {"HS384", "HS512", "hs256", "HS256 ", "RS256", "ES256", "PS256", "EdDSA"})
    EXPECT_EQ(why(raw_token(R"({"alg":")" + std::string(alg) + R"("})", "{}", kSecret)),
              "the token names another algorithm than the keys of this server are for")
        << alg;
}

TEST(Token, AHeaderGivenTwiceOrWithExtensionsIsRefused) {
  for (const char* header : {R"({"alg":"none","alg":"HS256"})", R"({"alg":"HS256","alg":"HS256"})",
                             R"({"alg":"HS256","crit":["exp"]})", R"({"alg":"HS256","typ":"JWE"})",
                             R"({"alg":"HS256","typ":null})", R"(["HS256"])", R"("HS256")", "", "{",
                             R"({"alg":"HS256"} x)"})
    EXPECT_NE(why(raw_token(header, "{}", kSecret)), "taken") << header;
}

// The classic confusion: a public key, which everybody knows, used as if it were a secret.
TEST(Token, ASignatureWithThePublicKeysTextIsRefused) {
  const KeyPair rsa = rsa_pair();
  const KeyPair ec = ec_pair();
  for (const std::string& pem : {rsa.public_pem, ec.public_pem}) {
    const std::vector<AuthKey> keys{verification_key(pem)};
    for (const std::string& text : {pem, pem.substr(0, pem.size() - 1), keys[0].material}) {
      for (const char* alg : {"HS256", "RS256", "ES256"})
        EXPECT_NE(why(raw_token(R"({"alg":")" + std::string(alg) + R"("})", "{}", text), keys),
                  "taken");
      // Also while another key of this server is a secret.
      EXPECT_NE(why(raw_token(kHs256, "{}", text), {keys[0], verification_key(kSecret)}), "taken");
    }
  }
}

TEST(Token, AClaimOfTheWrongTypeIsRefused) {
  for (const char* claims : {R"({"subscribe":"A:1"})",
                             R"({"subscribe":{"a":1}})",
                             R"({"subscribe":[1]})",
                             R"({"subscribe":["A",null]})",
                             R"({"subscribe":null})",
                             R"({"publish":1})",
                             R"({"publish":"true"})",
                             R"({"publish":null})",
                             R"({"admin":"yes"})",
                             R"({"admin":[]})",
                             R"({"sub":5})",
                             R"({"sub":null})",
                             R"({"exp":"1800000000"})",
                             R"({"exp":null})",
                             R"({"exp":true})",
                             R"({"exp":[1800000000]})",
                             R"({"nbf":"1"})",
                             R"({"nbf":{}})",
                             "[]",
                             "null",
                             "1",
                             "",
                             "{",
                             "\xFF",
                             R"({"sub":")"
                             "\xFF"
                             R"("})"})
    EXPECT_NE(why(token(claims)), "taken") << claims;
  EXPECT_EQ(why(token(R"({"sub":")" + std::string(255, 's') + R"("})")), "taken");
  EXPECT_NE(why(token(R"({"sub":")" + std::string(256, 's') + R"("})")), "taken");
}

TEST(Token, AClaimGivenTwiceIsRefused) {
  EXPECT_NE(why(token(R"({"subscribe":[],"subscribe":["*"]})")), "taken");
  EXPECT_NE(why(token(R"({"admin":false,"ad\u006din":true})")), "taken");
  EXPECT_NE(why(token(R"({"x":[{"y":1,"y":2}]})")), "taken");
  EXPECT_EQ(why(token(R"({"x":{"y":1},"y":[{"y":1},{"y":2}]})")), "taken");
}

TEST(Token, IsWorthNothingFromItsEndOnAndBeforeItsBeginning) {
  EXPECT_EQ(why(token(R"({"exp":1700000000})"), secret_key(), at(1'699'999'999)), "taken");
  EXPECT_EQ(why(token(R"({"exp":1700000000})")), "the token has expired");
  EXPECT_EQ(why(token(R"({"exp":0})")), "the token has expired");
  EXPECT_EQ(why(token(R"({"exp":-1})")), "the token has expired");
  EXPECT_EQ(why(token(R"({"nbf":1700000000})")), "taken");
  EXPECT_EQ(why(token(R"({"nbf":1700000001})")), "the token is not valid yet");
  EXPECT_EQ(why(token(R"({"nbf":-5})")), "taken");
  // Fractions count against the token.
  EXPECT_EQ(why(token(R"({"exp":1700000000.9})")), "the token has expired");
  EXPECT_EQ(claims_of(token(R"({"exp":1700000001.9})")).expires, at(1'700'000'001));
  EXPECT_EQ(why(token(R"({"nbf":1700000000.1})")), "the token is not valid yet");
  EXPECT_EQ(why(token(R"({"exp":1.8e9})")), "taken");
}

TEST(Token, TimesThatNoCalendarHasAreRefused) {
  EXPECT_EQ(claims_of(token(R"({"exp":253402300799})")).expires, at(253402300799));
  for (const char* number :
       {"253402300800", "1700000000000", "9223372036854775807", "9223372036854775808",
        "18446744073709551615", "18446744073709551616", "1e18", "1e300", "1e999", "-1e18",
        "-9223372036854775808", "-1e999", "NaN", "Infinity", "0x70000000", "01800000000"}) {
    EXPECT_NE(why(token(R"({"exp":)" + std::string(number) + "}")), "taken") << number;
    EXPECT_NE(why(token(R"({"nbf":)" + std::string(number) + "}")), "taken") << number;
  }
}

TEST(Token, IsBounded) {
  const auto of_size = [](std::size_t bytes) {
    return token(R"({"x":")" + std::string(bytes, 'x') + R"("})");
  };
  EXPECT_EQ(why(of_size(2900)), "taken");
  EXPECT_EQ(why(of_size(3100)), "the token has more than 4096 bytes");
  Claims many;
  many.subscribe.assign(100, "CommentStream:item:" + std::string(20, '1'));
  EXPECT_THROW(static_cast<void>(sign_token(many, signing_key(kSecret))), std::length_error);
}

TEST(Token, WhatIsNoTokenIsRefused) {
  const std::string good = token("{}");
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("..."), good + ".",
        good + ".x", "." + good, good + "=", good + " ", " " + good, good + "\n",
        good + std::string(1, '\0'), std::string("a.b.c"), std::string(4096, '.'),
        std::string(4096, 'A'), good.substr(0, good.rfind('.')),
        good.substr(0, good.rfind('.') + 1), good.substr(0, good.size() - 1)})
    EXPECT_NE(why(text), "taken") << text;
}

TEST(Token, ARandomChangeMakesNoOtherToken) {
  const std::string good = token(R"({"subscribe":["A:1"],"exp":1800000000})");
  const Claims claims = claims_of(good);
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string changed = good;
    for (int n = 0; n <= static_cast<int>(random() % 3); ++n) {
      const std::size_t place = random() % changed.size();
      switch (random() % 3) {
        case 0:
          changed[place] = static_cast<char>(random() % 256);
          break;
        case 1:
          changed.erase(place, 1);
          break;
        default:
          changed.insert(place, 1, "Aa0-_.="[random() % 7]);
      }
    }
    const auto verified = verify_token(changed, secret_key(), kNow);
    const auto* other = std::get_if<Claims>(&verified);
    ASSERT_TRUE(other == nullptr || *other == claims) << changed;
  }
}

TEST(Token, ARefusalSaysNothingOfTheToken) {
  for (const char* claims : {R"({"sub":1,"x":"PRIVATE"})", R"({"PRIVATE":1,"PRIVATE":2})",
                             R"({"exp":1,"sub":"PRIVATE"})", R"({"subscribe":"PRIVATE"})"}) {
    const std::string said = why(token(claims));
    EXPECT_NE(said, "taken");
    EXPECT_EQ(said.find("PRIVATE"), std::string::npos);
    EXPECT_EQ(said.find('"'), std::string::npos);  // it stands between quotes in a header
  }
}

}  // namespace
}  // namespace spillway::sse::test
