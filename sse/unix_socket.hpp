// The file of a listening Unix socket: made so that there is never a moment in which more may reach
// it than `mode` says, and taken away at the end if it is still the same one.
//
// One thread. Errors: std::system_error whose message says what to write instead.
#pragma once

#include <sys/types.h>

#include <string>

namespace spillway::sse {

class UnixSocketFile {
 public:
  // Binds `socket` to `path`. A socket that nobody listens on any more is replaced; a live one, and
  // a file that is no socket, are errors and stay.
  UnixSocketFile(int socket, std::string path, unsigned mode);
  ~UnixSocketFile() { remove(); }
  UnixSocketFile(const UnixSocketFile&) = delete;
  UnixSocketFile& operator=(const UnixSocketFile&) = delete;

  void remove() noexcept;

 private:
  std::string path_;  // empty: gone
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace spillway::sse
