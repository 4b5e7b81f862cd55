#include "tests/system/tls_support.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/support/process.hpp"

namespace spillway::test {

CertificateFiles make_certificate(const std::filesystem::path& folder, const std::string& name,
                                  int days) {
  std::filesystem::create_directories(folder);
  const CertificateFiles files{(folder / "cert.pem").string(), (folder / "key.pem").string()};
  const auto made =
      run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
           "-nodes", "-days", std::to_string(days), "-subj", "/CN=" + name, "-addext",
           "subjectAltName=DNS:" + name + ",IP:127.0.0.1", "-keyout", files.key, "-out",
           files.certificate});
  if (made.exit_code != 0) throw std::runtime_error("openssl: " + made.errors);
  return files;
}

int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  ::close(socket);
  return ntohs(address.sin_port);
}

}  // namespace spillway::test
