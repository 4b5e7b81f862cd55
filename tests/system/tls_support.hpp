// Certificates for system tests, made by the openssl command; and ports nobody listens on.
#pragma once

#include <filesystem>
#include <string>

namespace spillway::test {

struct CertificateFiles {
  std::string certificate;
  std::string key;
};
// Self-signed, for that name and 127.0.0.1; replaces what is in the folder.
CertificateFiles make_certificate(const std::filesystem::path& folder, const std::string& name,
                                  int days = 30);

int free_port();

}  // namespace spillway::test
