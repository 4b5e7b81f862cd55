// A process that outlives the torture by a moment, however that ends: what it left running is
// stopped, what it left lying about is removed.
#pragma once

#include <filesystem>

namespace spillway::torture {

class Guardian {
 public:
  // Forks, so before other threads are started. `scratch`: the folder that everything is in.
  explicit Guardian(const std::filesystem::path& scratch);
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;
  // No destructor: the end of this process is what it waits for.
};

}  // namespace spillway::torture
