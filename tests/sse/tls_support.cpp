#include "tests/sse/tls_support.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace spillway::sse::test {
namespace {

void insist(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string("OpenSSL: ") + what);
}

}  // namespace

Certificate::Certificate(const std::string& name, const Wish& wish) {
  std::string folder = std::filesystem::temp_directory_path() / "spillway-tls-XXXXXX";
  insist(::mkdtemp(folder.data()) != nullptr, "folder");
  folder_ = folder;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      wish.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> made(X509_new(), X509_free);
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), -86400 * 400L);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), wish.valid.count());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(made.get(), X509_get_subject_name(made.get()));
  X509_set_pubkey(made.get(), key.get());
  insist(X509_sign(made.get(), key.get(), EVP_sha256()) > 0, "sign");
  const std::unique_ptr<FILE, int (*)(FILE*)> cert_file(std::fopen(certificate().c_str(), "w"),
                                                        std::fclose);
  insist(PEM_write_X509(cert_file.get(), made.get()) == 1, "write");
  const std::unique_ptr<FILE, int (*)(FILE*)> key_file(std::fopen(this->key().c_str(), "w"),
                                                       std::fclose);
  const auto* secret = reinterpret_cast<const unsigned char*>(wish.passphrase.c_str());
  insist(PEM_write_PrivateKey(key_file.get(), key.get(),
                              wish.passphrase.empty() ? nullptr : EVP_aes_256_cbc(),
                              wish.passphrase.empty() ? nullptr : secret,
                              static_cast<int>(wish.passphrase.size()), nullptr, nullptr) == 1,
         "write");
}

Certificate::~Certificate() {
  std::filesystem::remove_all(folder_);
}

void TlsClient::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}
void TlsClient::Free::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}

TlsClient::TlsClient(std::uint16_t port, const Wish& wish)
    : socket_(port, wish.receive_buffer), context_(SSL_CTX_new(TLS_client_method())) {
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_security_level(context_.get(), 0);  // so that the server has to refuse old versions
  if (wish.version != 0) {
    SSL_CTX_set_min_proto_version(context_.get(), wish.version);
    SSL_CTX_set_max_proto_version(context_.get(), wish.version);
  }
  SSL_CTX_set_options(context_.get(), SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
  ssl_.reset(SSL_new(context_.get()));
  if (!wish.protocols.empty())
    SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(wish.protocols.data()),
                        static_cast<unsigned>(wish.protocols.size()));
  SSL_set_fd(ssl_.get(), socket_.descriptor());
  connected_ = SSL_connect(ssl_.get()) == 1;
  ERR_clear_error();
}

TlsClient::~TlsClient() = default;
TlsClient::TlsClient(TlsClient&&) noexcept = default;

std::string TlsClient::version() const {
  return SSL_get_version(ssl_.get());
}

std::string TlsClient::protocol() const {
  const unsigned char* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &length);
  return {reinterpret_cast<const char*>(name), length};
}

std::string TlsClient::name() const {
  const std::unique_ptr<X509, decltype(&X509_free)> theirs(SSL_get1_peer_certificate(ssl_.get()),
                                                           X509_free);
  if (!theirs) return {};
  std::array<char, 256> text{};
  X509_NAME_get_text_by_NID(X509_get_subject_name(theirs.get()), NID_commonName, text.data(),
                            static_cast<int>(text.size()));
  return text.data();
}

bool TlsClient::send(std::string_view bytes) {
  ERR_clear_error();
  return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) ==
         static_cast<int>(bytes.size());
}

bool TlsClient::read_some(std::size_t bytes, milliseconds deadline) {
  if (ended_) return false;
  pollfd waiting{socket_.descriptor(), POLLIN, 0};
  if (SSL_pending(ssl_.get()) == 0 && ::poll(&waiting, 1, static_cast<int>(deadline.count())) <= 0)
    return false;
  std::array<char, 65536> buffer;
  ERR_clear_error();
  const int n =
      SSL_read(ssl_.get(), buffer.data(), static_cast<int>(std::min(bytes, buffer.size())));
  if (n <= 0) {
    ended_ = true;
    close_notify_ = SSL_get_error(ssl_.get(), n) == SSL_ERROR_ZERO_RETURN;
    ERR_clear_error();
    return false;
  }
  received_.append(buffer.data(), static_cast<std::size_t>(n));
  return true;
}

bool TlsClient::read_until(std::string_view text, milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (received_.find(text) == std::string::npos) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !read_some(65536, left))
      return received_.find(text) != std::string::npos;
  }
  return true;
}

bool TlsClient::read_to_end(milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!ended_ && std::chrono::steady_clock::now() < end) read_some(65536, deadline);
  return ended_;
}

bool TlsClient::ask_for_new_keys() {
  ERR_clear_error();
  return SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_REQUESTED) == 1 &&
         SSL_do_handshake(ssl_.get()) == 1;
}

bool TlsClient::renegotiate() {
  ERR_clear_error();
  const bool took_part = SSL_renegotiate(ssl_.get()) == 1 && SSL_do_handshake(ssl_.get()) == 1;
  ERR_clear_error();
  return took_part;
}

void TlsClient::finish_sending() {
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

}  // namespace spillway::sse::test
