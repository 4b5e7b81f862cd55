// The certificate that `run` serves with, read from files: at the start, where what is wrong with
// it is a ConfigurationError, and again at SIGHUP. Says in the log when its time is nearly over.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "sse/tls_context.hpp"

namespace spillway {

struct TlsFiles {
  std::string certificate;  // PEM, with the intermediate certificates behind it
  std::string key;          // PEM, without a passphrase

  [[nodiscard]] bool given() const { return !certificate.empty(); }
};

// Throws ConfigurationError with the option and what to write.
[[nodiscard]] std::shared_ptr<const sse::TlsContext> load_tls(const TlsFiles& files);

// What the log should say about a certificate that is valid until then; empty when nothing.
[[nodiscard]] std::string expiry_warning(std::chrono::system_clock::time_point expires,
                                         std::chrono::system_clock::time_point now);

}  // namespace spillway
