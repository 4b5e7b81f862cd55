#include "sse/unix_socket.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace spillway::sse {
namespace {

[[noreturn]] void fail(int number, const std::string& message) {
  throw std::system_error(number, std::generic_category(), message);
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    fail(ENAMETOOLONG, "the path of a Unix socket has at most " +
                           std::to_string(sizeof address.sun_path - 1) +
                           " bytes; write a shorter one than " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

bool somebody_listens(const sockaddr_un& address) {
  const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Only a refusal says that nobody does; a full backlog, say, means the opposite.
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
         errno != ECONNREFUSED;
}

void make_way(const std::string& path, const sockaddr_un& address) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0) return;
  if (!S_ISSOCK(there.st_mode))
    fail(EEXIST, path + " is there and is not a socket; remove it, or write another path");
  if (somebody_listens(address))
    fail(EADDRINUSE,
         "another process listens on unix:" + path + "; stop it, or write another path");
  ::unlink(path.c_str());
}

}  // namespace

UnixSocketFile::UnixSocketFile(int socket, std::string path, unsigned mode) {
  const sockaddr_un address = address_of(path);
  // Two processes that start at the same time: the second finds the first one listening, not a
  // socket that seems stale. The lock is on the folder, so that it leaves no file behind.
  const auto folder = std::filesystem::path(path).parent_path();
  const Descriptor lock(
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.get() < 0) fail(errno, "the folder of unix:" + path);
  ::flock(lock.get(), LOCK_EX);
  make_way(path, address);
  ::fchmod(socket, static_cast<mode_t>(mode));  // the file begins with no more than this
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket, SOMAXCONN) != 0)
    fail(errno, "cannot listen on unix:" + path);
  path_ = std::move(path);
  struct stat made {};
  if (::chmod(path_.c_str(), static_cast<mode_t>(mode)) != 0 ||
      ::lstat(path_.c_str(), &made) != 0) {
    const int number = errno;
    ::unlink(path_.c_str());
    fail(number, "cannot give unix:" + path_ + " its permissions");
  }
  device_ = made.st_dev;
  inode_ = made.st_ino;
}

void UnixSocketFile::remove() noexcept {
  if (path_.empty()) return;
  struct stat there {};
  const bool ours =
      ::lstat(path_.c_str(), &there) == 0 && there.st_dev == device_ && there.st_ino == inode_;
  if (ours) ::unlink(path_.c_str());
  path_.clear();
}

}  // namespace spillway::sse
