// TLS for tests: certificates made on the spot, and a client that speaks TLS over a Client's
// socket.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "sse/tls_context.hpp"
#include "tests/sse/support.hpp"

struct ssl_st;
struct ssl_ctx_st;

namespace spillway::sse::test {

// Two PEM files in a folder of their own, gone at the end. An EC key unless `rsa`; with a
// passphrase the key is encrypted.
class Certificate {
 public:
  struct Wish {
    std::chrono::seconds valid{std::chrono::hours(24 * 365)};
    bool rsa = false;
    std::string passphrase{};
  };
  explicit Certificate(const std::string& name = "localhost") : Certificate(name, Wish{}) {}
  Certificate(const std::string& name, const Wish& wish);
  ~Certificate();
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  [[nodiscard]] std::string certificate() const { return folder_ + "/cert.pem"; }
  [[nodiscard]] std::string key() const { return folder_ + "/key.pem"; }
  [[nodiscard]] std::shared_ptr<const TlsContext> context() const {
    return std::make_shared<TlsContext>(certificate(), key());
  }

 private:
  std::string folder_;
};

class TlsClient {
 public:
  struct Wish {
    int version = 0;             // TLS1_2_VERSION …; 0: any
    std::string protocols = {};  // for ALPN, each with its length in front
    int receive_buffer = 0;
  };
  explicit TlsClient(std::uint16_t port) : TlsClient(port, Wish{}) {}
  TlsClient(std::uint16_t port, const Wish& wish);
  ~TlsClient();
  TlsClient(TlsClient&&) noexcept;

  // Whether the handshake went well.
  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] std::string version() const;
  [[nodiscard]] std::string protocol() const;  // that ALPN chose
  [[nodiscard]] std::string name() const;      // in the server's certificate
  bool send(std::string_view bytes);
  // Reads at most `bytes` of what is there, or comes; false at the end or after the deadline.
  bool read_some(std::size_t bytes, milliseconds deadline = kPatience);
  bool read_until(std::string_view text, milliseconds deadline = kPatience);
  bool read_to_end(milliseconds deadline = kPatience);
  bool ask_for_new_keys();  // TLS 1.3: KeyUpdate, and one in answer
  bool renegotiate();       // TLS 1.2; whether the server took part
  void finish_sending();    // close_notify
  void reset() { socket_.reset(); }

  [[nodiscard]] const std::string& received() const { return received_; }
  // The end was said by TLS, not only by the socket.
  [[nodiscard]] bool ended_by_close_notify() const { return close_notify_; }
  Client& socket() { return socket_; }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
    void operator()(ssl_st* ssl) const;
  };
  Client socket_;
  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::unique_ptr<ssl_st, Free> ssl_;
  std::string received_;
  bool connected_ = false;
  bool ended_ = false;
  bool close_notify_ = false;
};

}  // namespace spillway::sse::test
