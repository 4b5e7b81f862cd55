// Keys and tokens for tests, made with OpenSSL alone: what signs here shares nothing with what is
// tested.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace spillway::sse::test {

struct KeyPair {
  std::string private_pem;
  std::string public_pem;
};

inline KeyPair key_pair(EVP_PKEY* made) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(made, &EVP_PKEY_free);
  if (!key) throw std::runtime_error("no key");
  const auto text = [&](auto write) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
    write(out.get());
    char* data = nullptr;
    const long size = BIO_get_mem_data(out.get(), &data);
    return std::string(data, static_cast<std::size_t>(size));
  };
  return {text([&](BIO* out) {
            PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
          }),
          text([&](BIO* out) { PEM_write_bio_PUBKEY(out, key.get()); })};
}

inline KeyPair rsa_pair(std::size_t bits = 2048) {
  return key_pair(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", bits));
}
inline KeyPair ec_pair(const char* curve = "P-256") {
  return key_pair(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve));
}

inline std::string base64url(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(size));
  while (out.ends_with('=')) out.pop_back();
  for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

inline std::string hmac(std::string_view key, std::string_view text) {
  std::array<unsigned char, 32> out{};
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), &size);
  return {reinterpret_cast<const char*>(out.data()), size};
}

// Any header and any claims, signed with HMAC-SHA256, whatever the header says.
inline std::string raw_token(std::string_view header, std::string_view claims,
                             std::string_view key) {
  const std::string text = base64url(header) + "." + base64url(claims);
  return text + "." + base64url(hmac(key, text));
}

inline constexpr std::string_view kSecret = "a secret of this test, 32 bytes+";
inline constexpr std::string_view kHs256 = R"({"alg":"HS256","typ":"JWT"})";

inline std::string token(std::string_view claims) {
  return raw_token(kHs256, claims, kSecret);
}

}  // namespace spillway::sse::test
