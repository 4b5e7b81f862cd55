#include "sse/auth_key.hpp"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>

namespace spillway::sse {
namespace {

constexpr std::size_t kSecretBytes = 32;
constexpr int kRsaBits = 2048;
constexpr std::size_t kFileBytes = 64u << 10;
constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kWhatThereIs =
    "write a secret of 32 bytes or more (openssl rand -hex 32), or a key as PEM: RSA of 2048 bits "
    "or more, or EC on P-256";

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

// What OpenSSL noted on the way: later calls of others on this thread would take it for theirs.
struct ErrorQueue {
  ErrorQueue() = default;
  ErrorQueue(const ErrorQueue&) = delete;
  ErrorQueue& operator=(const ErrorQueue&) = delete;
  ~ErrorQueue() { ERR_clear_error(); }
};

bool is_pem(std::string_view text) {
  return text.find(kBegin) != std::string_view::npos;
}

// "PUBLIC KEY", "EC PRIVATE KEY" …; EC PARAMETERS, which openssl puts before a key, are none.
std::vector<std::string> pem_labels(std::string_view text) {
  std::vector<std::string> labels;
  for (std::size_t at = text.find(kBegin); at != std::string_view::npos;
       at = text.find(kBegin, at)) {
    at += kBegin.size();
    const std::string_view label = text.substr(at, text.find("-----", at) - at);
    if (label != "EC PARAMETERS") labels.emplace_back(label.substr(0, 40));
  }
  return labels;
}

Bio memory(std::string_view text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free};
}

int no_password(char*, int, int, void*) {
  return -1;  // rather fail than ask the terminal
}

Algorithm algorithm_of(const EVP_PKEY& key) {
  if (EVP_PKEY_is_a(&key, "RSA") == 1) {
    if (EVP_PKEY_get_bits(&key) < kRsaBits)
      throw AuthKeyError("is an RSA key of " + std::to_string(EVP_PKEY_get_bits(&key)) +
                         " bits; write one of 2048 or more");
    return Algorithm::rs256;
  }
  if (EVP_PKEY_is_a(&key, "EC") == 1) {
    std::array<char, 64> group{};
    std::size_t length = 0;
    if (EVP_PKEY_get_utf8_string_param(&key, OSSL_PKEY_PARAM_GROUP_NAME, group.data(), group.size(),
                                       &length) != 1)
      length = 0;
    if (const std::string_view name(group.data(), length); name != "prime256v1")
      throw AuthKeyError("is an EC key on the curve " + std::string(name.empty() ? "?" : name) +
                         "; write one on P-256 (openssl ecparam -name prime256v1 -genkey -noout)");
    return Algorithm::es256;
  }
  throw AuthKeyError("is a key of a kind that tokens are not signed with here; " +
                     std::string(kWhatThereIs));
}

template <class Write>
std::string as_pem(Write write) {
  const Bio out(BIO_new(BIO_s_mem()), &BIO_free);
  if (!out || write(out.get()) != 1) throw AuthKeyError("cannot be written as PEM");
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

// A public key in another wrapping must not pass for a secret: everybody may know it.
bool is_key_of_another_format(std::string_view text) {
  for (const std::string_view start : {"ssh-", "ecdsa-", "sk-", "{", "[", "MII", "MFkw"})
    if (text.starts_with(start)) return true;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const auto* begin = bytes;
  if (const Pkey key(d2i_PUBKEY(nullptr, &begin, static_cast<long>(text.size())), &EVP_PKEY_free);
      key)
    return true;
  begin = bytes;
  const Pkey key(d2i_AutoPrivateKey(nullptr, &begin, static_cast<long>(text.size())),
                 &EVP_PKEY_free);
  return key != nullptr;
}

AuthKey secret(std::string_view text) {
  const std::string_view whole = text;  // in DER the last byte may be a newline's
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.ends_with('\r')) text.remove_suffix(1);
  if (text.empty()) throw AuthKeyError("is empty; " + std::string(kWhatThereIs));
  if (is_key_of_another_format(whole) || is_key_of_another_format(text))
    throw AuthKeyError("is a key, or JSON, in a format that is not read here; convert it to PEM");
  if (text.size() < kSecretBytes)
    throw AuthKeyError("is a secret of " + std::to_string(text.size()) + " bytes; " +
                       std::string(kWhatThereIs));
  return {Algorithm::hs256, std::string(text)};
}

// One key in one file: which of two was meant, nobody could say.
std::string only_label(std::string_view text) {
  const auto labels = pem_labels(text);
  if (labels.size() > 1)
    throw AuthKeyError("holds more than one PEM block; write one key into each file");
  return labels.empty() ? std::string() : labels.front();
}

}  // namespace

std::string_view to_string(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::hs256:
      return "HS256";
    case Algorithm::rs256:
      return "RS256";
    case Algorithm::es256:
      return "ES256";
  }
  return {};
}

AuthKey verification_key(std::string_view text) {
  const ErrorQueue queue;
  if (!is_pem(text)) return secret(text);
  const std::string label = only_label(text);
  if (label.ends_with("PRIVATE KEY"))
    throw AuthKeyError(
        "is a private key; the server needs the public one alone: openssl pkey -in FILE -pubout "
        "-out PUBLIC");
  if (label == "CERTIFICATE")
    throw AuthKeyError(
        "is a certificate; write its public key: openssl x509 -in FILE -noout "
        "-pubkey");
  if (label == "RSA PUBLIC KEY")
    throw AuthKeyError(
        "is in an old format; convert it: openssl rsa -RSAPublicKey_in -in FILE "
        "-pubout -out PUBLIC");
  const Bio in = memory(text);
  const Pkey key(PEM_read_bio_PUBKEY(in.get(), nullptr, no_password, nullptr), &EVP_PKEY_free);
  if (!key) throw AuthKeyError("is not a public key as PEM; " + std::string(kWhatThereIs));
  const Algorithm algorithm = algorithm_of(*key);
  // Written anew, so that what was checked is what is used.
  return {algorithm, as_pem([&](BIO* out) { return PEM_write_bio_PUBKEY(out, key.get()); })};
}

AuthKey signing_key(std::string_view text) {
  const ErrorQueue queue;
  if (!is_pem(text)) return secret(text);
  const std::string label = only_label(text);
  if (label.ends_with("PUBLIC KEY") || label == "CERTIFICATE")
    throw AuthKeyError("is public and cannot sign; write the private key that belongs to it");
  if (label.starts_with("ENCRYPTED") || text.find("Proc-Type: 4,ENCRYPTED") != text.npos)
    throw AuthKeyError("is encrypted; take the password off: openssl pkey -in FILE -out PLAIN");
  const Bio in = memory(text);
  const Pkey key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_password, nullptr), &EVP_PKEY_free);
  if (!key) throw AuthKeyError("is not a private key as PEM; " + std::string(kWhatThereIs));
  const Algorithm algorithm = algorithm_of(*key);
  return {algorithm, as_pem([&](BIO* out) {
            return PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

std::string read_key_file(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw AuthKeyError("there is no such file");
  // Reading anything else might never end, and a reload must.
  if (!std::filesystem::is_regular_file(status)) throw AuthKeyError("is not a regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw AuthKeyError("cannot be read; see its owner and mode");
  std::string text(kFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) throw AuthKeyError("cannot be read");
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kFileBytes) throw AuthKeyError("has more than 64 KiB; is it a key?");
  return text;
}

}  // namespace spillway::sse
