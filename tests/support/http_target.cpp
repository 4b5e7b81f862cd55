#include "tests/support/http_target.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "tests/support/database.hpp"
#include "tests/support/process.hpp"

namespace spillway::test {
namespace {

constexpr const char* fine = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

}  // namespace

// A connection, plain or TLS.
struct HttpTarget::Channel {
  int fd;
  std::unique_ptr<SSL, decltype(&SSL_free)> tls{nullptr, SSL_free};

  std::size_t read(char* bytes, std::size_t most) const {
    const auto got = tls ? SSL_read(tls.get(), bytes, static_cast<int>(most))
                         : static_cast<int>(recv(fd, bytes, most, 0));
    return got <= 0 ? 0 : static_cast<std::size_t>(got);
  }
  void write(const std::string& text) const {
    for (std::size_t sent = 0; sent < text.size();) {
      const auto more =
          tls ? SSL_write(tls.get(), text.data() + sent, static_cast<int>(text.size() - sent))
              : static_cast<int>(send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL));
      if (more <= 0) return;  // the client has gone
      sent += static_cast<std::size_t>(more);
    }
  }
};

std::string HttpTarget::Request::line() const {
  return head.substr(0, head.find("\r\n"));
}

std::string HttpTarget::Request::header(const std::string& name) const {
  const std::size_t at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + 2 + name.size() + 2;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

HttpTarget::HttpTarget(Identity identity) : identity_(std::move(identity)) {
  listening_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listening_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listening_, 64) != 0 ||
      getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no port to listen on");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { accept_all(); });
}

HttpTarget::~HttpTarget() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
  }
  changed_.notify_all();
  shutdown(listening_, SHUT_RDWR);
  thread_.join();
  for (auto& connection : connections_) connection.join();
  ::close(listening_);
}

std::string HttpTarget::url(const std::string& host) const {
  return (identity_.key.empty() ? "http://" : "https://") + host + ":" + std::to_string(port_) +
         "/hook";
}

void HttpTarget::answer(int status, const std::string& headers, const std::string& body) {
  answer_raw("HTTP/1.1 " + std::to_string(status) + " Told\r\n" + headers +
             "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}
void HttpTarget::answer_raw(const std::string& text) {
  const std::scoped_lock lock(mutex_);
  steps_.push_back({Step::Kind::answer, text});
}
void HttpTarget::hang() {
  const std::scoped_lock lock(mutex_);
  steps_.push_back({Step::Kind::hang, {}});
}
void HttpTarget::hang_always() {
  const std::scoped_lock lock(mutex_);
  always_hang_ = true;
}
void HttpTarget::close() {
  const std::scoped_lock lock(mutex_);
  steps_.push_back({Step::Kind::close, {}});
}
void HttpTarget::release() {
  {
    const std::scoped_lock lock(mutex_);
    ++releases_;
    always_hang_ = false;
  }
  changed_.notify_all();
}

std::vector<HttpTarget::Request> HttpTarget::requests() const {
  const std::scoped_lock lock(mutex_);
  return requests_;
}

void HttpTarget::accept_all() {
  for (;;) {
    const int fd = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    const std::scoped_lock lock(mutex_);
    if (stopping_ || fd < 0) {
      if (fd >= 0) ::close(fd);
      return;
    }
    open_.insert(fd);
    connections_.emplace_back([this, fd] { serve(fd); });
  }
}

void HttpTarget::serve(int fd) {
  {
    Channel channel{fd};
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
        identity_.key.empty() ? nullptr : SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    bool ready = true;
    if (context) {
      SSL_CTX_use_certificate_file(context.get(), identity_.certificate.c_str(), SSL_FILETYPE_PEM);
      SSL_CTX_use_PrivateKey_file(context.get(), identity_.key.c_str(), SSL_FILETYPE_PEM);
      channel.tls.reset(SSL_new(context.get()));
      SSL_set_fd(channel.tls.get(), fd);
      ready = SSL_accept(channel.tls.get()) == 1;
    }
    if (ready) answer_one(channel);
  }
  const std::scoped_lock lock(mutex_);
  open_.erase(fd);
  ::close(fd);
}

void HttpTarget::answer_one(Channel& channel) {
  std::string bytes;
  std::array<char, 65536> chunk{};
  const auto more = [&] {
    const std::size_t got = channel.read(chunk.data(), chunk.size());
    bytes.append(chunk.data(), got);
    return got > 0;
  };
  std::size_t end = std::string::npos;
  while ((end = bytes.find("\r\n\r\n")) == std::string::npos)
    if (!more()) return;
  Request request{bytes.substr(0, end + 2), {}};
  const std::string length = request.header("Content-Length");
  const std::size_t body = length.empty() ? 0 : std::stoul(length);
  while (bytes.size() < end + 4 + body)
    if (!more()) return;
  request.body = bytes.substr(end + 4);

  Step step{Step::Kind::answer, fine};
  {
    std::unique_lock lock(mutex_);
    requests_.push_back(std::move(request));
    if (always_hang_) {
      step.kind = Step::Kind::hang;
    } else if (!steps_.empty()) {
      step = std::move(steps_.front());
      steps_.pop_front();
    }
    if (step.kind == Step::Kind::hang) {
      const int seen = releases_;
      changed_.wait(lock, [&] { return stopping_ || releases_ != seen; });
      step.text = fine;
    }
  }
  if (step.kind != Step::Kind::close) channel.write(step.text);
}

HttpTarget::Identity self_signed(const std::string& names) {
  static int number = 0;
  const auto base = scratch_folder() / ("identity" + std::to_string(++number));
  HttpTarget::Identity identity{base.string() + ".crt", base.string() + ".key"};
  const Finished made =
      run({"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
           "/CN=spillway test", "-addext", "subjectAltName=" + names, "-keyout", identity.key,
           "-out", identity.certificate});
  if (made.exit_code != 0) throw std::runtime_error("openssl: " + made.errors);
  return identity;
}

}  // namespace spillway::test
