#include "sse/tls_session.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>

namespace spillway::sse {
namespace {

constexpr std::size_t kRecord = 16384;  // the most that TLS puts into one

}  // namespace

// How OpenSSL reaches the socket. Its own socket BIO would raise SIGPIPE.
struct TlsBio {
  static int write(BIO* bio, const char* data, int size) {
    auto* session = static_cast<TlsSession*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const ssize_t n = ::send(session->descriptor_, data, static_cast<std::size_t>(size),
                             MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) session->left_ += static_cast<std::uint64_t>(n);
    if (n < 0 && would_block()) BIO_set_retry_write(bio);
    return static_cast<int>(n);
  }

  static int read(BIO* bio, char* data, int size) {
    auto* session = static_cast<TlsSession*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const ssize_t n =
        ::recv(session->descriptor_, data, static_cast<std::size_t>(size), MSG_DONTWAIT);
    if (n < 0 && would_block()) BIO_set_retry_read(bio);
    if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return static_cast<int>(n);
  }

  static long control(BIO* bio, int command, long, void*) {
    switch (command) {
      case BIO_CTRL_FLUSH:
        return 1;
      case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
      default:
        return 0;
    }
  }

  static int create(BIO* bio) {
    BIO_set_init(bio, 1);
    return 1;
  }

  static bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "spillway");
      if (m == nullptr) throw std::bad_alloc();
      BIO_meth_set_write(m, write);
      BIO_meth_set_read(m, read);
      BIO_meth_set_ctrl(m, control);
      BIO_meth_set_create(m, create);
      return m;
    }();
    return made;
  }
};

void TlsSession::Free::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}

TlsSession::TlsSession(const TlsContext& context, int descriptor)
    : descriptor_(descriptor), ssl_(SSL_new(context.get())) {
  BIO* bio = ssl_ ? BIO_new(TlsBio::method()) : nullptr;
  if (bio == nullptr) {
    ERR_clear_error();
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_accept_state(ssl_.get());
}

TlsSession::~TlsSession() = default;

TlsSession::Status TlsSession::status_of(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Status::want_read;
    case SSL_ERROR_WANT_WRITE:
      return Status::want_write;
    case SSL_ERROR_ZERO_RETURN:
      return Status::closed;
    default:
      break;
  }
  const bool plain = ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST;
  ERR_clear_error();
  open_ = false;
  return plain ? Status::plain_http : Status::failed;
}

TlsSession::Status TlsSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result != 1) return status_of(result);
  open_ = true;
  return Status::done;
}

TlsSession::Status TlsSession::read(void* buffer, std::size_t size, std::size_t& bytes) {
  bytes = 0;
  if (!open_) return Status::failed;
  ERR_clear_error();
  const int result = SSL_read_ex(ssl_.get(), buffer, size, &bytes);
  return result == 1 ? Status::done : status_of(result);
}

TlsSession::Status TlsSession::write_record(const void* data, std::size_t size,
                                            std::size_t& bytes) {
  ERR_clear_error();
  const int result = SSL_write_ex(ssl_.get(), data, size, &bytes);
  if (result == 1) return Status::done;
  const Status status = status_of(result);
  // Only a renegotiation would have to read first, and there are none.
  if (status != Status::want_read) return status;
  open_ = false;
  return Status::failed;
}

TlsSession::Status TlsSession::write(const iovec* pieces, std::size_t count, std::size_t& bytes) {
  bytes = 0;
  if (!open_) return Status::failed;
  if (!held_.empty()) {
    std::size_t sent = 0;
    const Status status = write_record(held_.data(), held_.size(), sent);
    if (status != Status::done) return status;
    held_ = {};
  }
  // Small frames become one record. Not initialised: only what was copied in is read.
  std::array<char, kRecord> record;
  std::size_t piece = 0;
  std::size_t offset = 0;  // into that piece
  while (piece < count) {
    std::size_t size = 0;
    while (piece < count && size < kRecord) {
      const std::size_t part = std::min(pieces[piece].iov_len - offset, kRecord - size);
      std::memcpy(record.data() + size, static_cast<const char*>(pieces[piece].iov_base) + offset,
                  part);
      size += part;
      offset += part;
      if (offset == pieces[piece].iov_len) {
        ++piece;
        offset = 0;
      }
    }
    if (size == 0) break;
    std::size_t sent = 0;
    const Status status = write_record(record.data(), size, sent);
    if (status == Status::want_write) {
      held_.assign(record.data(), size);
      bytes += size;
      return status;
    }
    if (status != Status::done) return status;
    bytes += sent;
  }
  return Status::done;
}

bool TlsSession::buffered() const {
  return SSL_pending(ssl_.get()) > 0;
}

void TlsSession::say_goodbye() {
  if (!open_ || !held_.empty()) return;
  open_ = false;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

}  // namespace spillway::sse
