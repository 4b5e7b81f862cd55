// Which key is taken for what, and what is said about one that is not taken.
#include "sse/auth_key.hpp"

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/sse/keys.hpp"

namespace spillway::sse::test {
namespace {

std::string complaint(AuthKey (*read)(std::string_view), std::string_view text) {
  try {
    static_cast<void>(read(text));
  } catch (const AuthKeyError& error) {
    EXPECT_EQ(ERR_peek_error(), 0u) << "something is left for others to find";
    return error.what();
  }
  return "taken";
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(AuthKey, TheAlgorithmFollowsFromTheKey) {
  const KeyPair rsa = rsa_pair();
  const KeyPair ec = ec_pair();
  EXPECT_EQ(verification_key(kSecret).algorithm, Algorithm::hs256);
  EXPECT_EQ(verification_key(rsa.public_pem).algorithm, Algorithm::rs256);
  EXPECT_EQ(verification_key(ec.public_pem).algorithm, Algorithm::es256);
  EXPECT_EQ(verification_key("a comment\n" + ec.public_pem).material, ec.public_pem);
  EXPECT_EQ(signing_key(kSecret).algorithm, Algorithm::hs256);
  EXPECT_EQ(signing_key(rsa.private_pem).algorithm, Algorithm::rs256);
  EXPECT_EQ(signing_key(ec.private_pem).algorithm, Algorithm::es256);
}

TEST(AuthKey, OneNewlineIsNotPartOfASecret) {
  EXPECT_EQ(verification_key(std::string(kSecret) + "\n").material, kSecret);
  EXPECT_EQ(verification_key(std::string(kSecret) + "\r\n").material, kSecret);
  EXPECT_EQ(verification_key(std::string(kSecret) + "\n\n").material, std::string(kSecret) + "\n");
}

TEST(AuthKey, AShortSecretIsRefused) {
  EXPECT_EQ(complaint(verification_key, std::string(32, 'x') + "\n"), "taken");
  const std::string said = complaint(verification_key, std::string(31, 'x') + "\n");
  EXPECT_TRUE(has(said, "31 bytes") && has(said, "openssl rand -hex 32")) << said;
  EXPECT_TRUE(has(complaint(verification_key, ""), "is empty"));
  EXPECT_TRUE(has(complaint(verification_key, "\n"), "is empty"));
}

TEST(AuthKey, WeakKeysAndOtherKindsAreRefused) {
  EXPECT_TRUE(has(complaint(verification_key, rsa_pair(1024).public_pem), "1024 bits"));
  EXPECT_TRUE(has(complaint(verification_key, ec_pair("P-384").public_pem), "secp384r1"));
  EXPECT_TRUE(has(complaint(signing_key, ec_pair("P-521").private_pem), "secp521r1"));
  const KeyPair ed = key_pair(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  EXPECT_TRUE(has(complaint(verification_key, ed.public_pem), "of a kind"));
}

TEST(AuthKey, TheServerTakesNoPrivateKeyAndNobodySignsWithAPublicOne) {
  const KeyPair ec = ec_pair();
  EXPECT_TRUE(has(complaint(verification_key, ec.private_pem), "-pubout"));
  EXPECT_TRUE(has(complaint(signing_key, ec.public_pem), "cannot sign"));
  EXPECT_TRUE(has(complaint(verification_key, ec.public_pem + ec.public_pem), "more than one"));
  EXPECT_TRUE(has(complaint(verification_key, ec.public_pem + ec.private_pem), "more than one"));
}

TEST(AuthKey, APublicKeyInAnotherFormatIsNoSecret) {
  const KeyPair ec = ec_pair();
  EXPECT_NE(complaint(verification_key, ec.public_pem.substr(27, 60)), "taken");
  for (const char* text : {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8 me@here and some more of it",
                           "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"abc\",\"y\":\"def\"}",
                           "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                           "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n",
                           "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                           "-----BEGIN PUBLIC KEY-----\n"})
    EXPECT_NE(complaint(verification_key, text), "taken") << text;
}

TEST(AuthKey, ADerKeyIsNoSecret) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), &EVP_PKEY_free);
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key.get(), &der);
  const std::string text(reinterpret_cast<char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  EXPECT_TRUE(has(complaint(verification_key, text), "PEM"));
}

TEST(AuthKey, AFileIsReadOnlyWhenItIsOne) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("spillway-keys-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto said = [](const std::filesystem::path& path) {
    try {
      return read_key_file(path.string());
    } catch (const AuthKeyError& error) {
      return std::string(error.what());
    }
  };
  std::ofstream(folder / "key") << "text\n";
  std::ofstream(folder / "large") << std::string(70000, 'x');
  EXPECT_EQ(said(folder / "key"), "text\n");
  EXPECT_TRUE(has(said(folder / "none"), "no such file"));
  EXPECT_TRUE(has(said(folder), "not a regular file"));
  EXPECT_TRUE(has(said("/dev/zero"), "not a regular file"));
  EXPECT_TRUE(has(said(folder / "large"), "64 KiB"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace spillway::sse::test
