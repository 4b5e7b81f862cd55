// A file that was compiled into the binary (scripts/embed.cmake).
#pragma once

#include <cstddef>
#include <string_view>

namespace spillway {

struct EmbeddedFile {
  std::string_view name;
  std::string_view text;
};

}  // namespace spillway
