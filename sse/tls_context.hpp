// A certificate and its key, and the rules by which TLS is spoken with them: TLS 1.2 at least,
// HTTP/1.1 by ALPN, no renegotiation, tickets for quick reconnections and nothing kept about them.
//
// Immutable; shared by the connections that were begun with it, so a new certificate is a new
// context and open connections go on with theirs. The constructor throws std::runtime_error with a
// message that says which file is wrong and what to write instead.
#pragma once

#include <chrono>
#include <memory>
#include <string>

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace spillway::sse {

class TlsContext {
 public:
  // PEM files: the certificate with the intermediate ones behind it, and its key without a
  // passphrase.
  TlsContext(const std::string& certificate, const std::string& key);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  [[nodiscard]] ssl_ctx_st* get() const { return context_.get(); }
  [[nodiscard]] std::chrono::system_clock::time_point expires() const { return expires_; }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::chrono::system_clock::time_point expires_;
};

}  // namespace spillway::sse
