#include "sse/tls_context.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string_view>

namespace spillway::sse {
namespace {

// With TLS 1.3 OpenSSL's own choice; of TLS 1.2 what has forward secrecy and no padding to attack.
constexpr const char* kCiphers12 = "ECDHE+AESGCM:ECDHE+CHACHA20";

std::string last_error() {
  std::array<char, 256> text{};
  const unsigned long error = ERR_peek_last_error();
  ERR_error_string_n(error, text.data(), text.size());
  const char* reason = ERR_reason_error_string(error);
  ERR_clear_error();
  return reason != nullptr ? reason : text.data();
}

[[noreturn]] void fail(const std::string& message) {
  ERR_clear_error();
  throw std::runtime_error(message);
}

void check_readable(const std::string& file) {
  errno = 0;
  if (!std::ifstream(file).read(std::array<char, 1>{}.data(), 1))
    fail(file + " cannot be read" + (errno != 0 ? ": " + std::string(std::strerror(errno)) : ""));
}

// Nobody is there to be asked for one.
int no_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 0;
}

void use_key(SSL_CTX* context, const std::string& file) {
  check_readable(file);
  bool asked = false;
  SSL_CTX_set_default_passwd_cb(context, no_passphrase);
  SSL_CTX_set_default_passwd_cb_userdata(context, &asked);
  const bool used = SSL_CTX_use_PrivateKey_file(context, file.c_str(), SSL_FILETYPE_PEM) == 1;
  SSL_CTX_set_default_passwd_cb_userdata(context, nullptr);
  SSL_CTX_set_default_passwd_cb(context, nullptr);
  if (used) return;
  if (asked)
    fail(file + " is encrypted with a passphrase; write it without: openssl pkey -in " + file +
         " -out key.pem");
  if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
    fail(file + " is not the key of the certificate; write the two that belong together");
  fail(file + " has no private key in PEM form (" + last_error() + ")");
}

// The client's list, each with its length in front of it.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_length,
                    const unsigned char* in, unsigned in_length, void*) {
  static constexpr std::string_view kHttp = "http/1.1";
  for (unsigned at = 0; at < in_length; at += 1u + in[at]) {
    const std::string_view name(reinterpret_cast<const char*>(in + at + 1), in[at]);
    if (name != kHttp) continue;
    *out = in + at + 1;
    *out_length = in[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

std::chrono::system_clock::time_point end_of(const X509* certificate) {
  std::tm when{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1)
    return std::chrono::system_clock::time_point::max();
  return std::chrono::system_clock::from_time_t(::timegm(&when));
}

}  // namespace

void TlsContext::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

TlsContext::TlsContext(const std::string& certificate, const std::string& key)
    : context_(SSL_CTX_new(TLS_server_method())) {
  if (!context_) fail("OpenSSL: " + last_error());
  SSL_CTX* context = context_.get();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, kCiphers12);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Released: a stream that waits keeps no buffers. A record that could not be sent is offered
  // again from wherever the bytes are by then. One record a call, so that nobody keeps a thread.
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 1);
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);

  check_readable(certificate);
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1)
    fail(certificate + " has no certificate in PEM form (" + last_error() + ")");
  use_key(context, key);
  if (SSL_CTX_check_private_key(context) != 1)
    fail(key + " is not the key of " + certificate + "; write the two that belong together");
  expires_ = end_of(SSL_CTX_get0_certificate(context));
}

TlsContext::~TlsContext() = default;

}  // namespace spillway::sse
