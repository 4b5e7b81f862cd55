#include "processor/handler_library.hpp"

#include <dlfcn.h>

#include <exception>
#include <filesystem>
#include <string_view>

#include "spillway/spillway.hpp"

// Defined by SPILLWAY_HANDLERS when handlers are linked into the program itself.
extern "C" __attribute__((weak)) void spillway_register_handlers(spillway::Registry& registry);

namespace spillway {

void load_handler_library(const std::string& path, Registry& registry) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    throw HandlerLibraryError("--handlers " + path + ": there is no such file");
  if (fs::is_directory(path, ignored))
    throw HandlerLibraryError("--handlers " + path +
                              ": is a directory; name the shared library (.so) in it");
  // An absolute path, or dlopen would search the system's folders for a bare name.
  const std::string absolute = fs::absolute(path).string();
  void* library = dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    throw HandlerLibraryError("--handlers " + path + ": cannot be loaded: " + dlerror());

  const auto abi = reinterpret_cast<const char* (*)()>(dlsym(library, "spillway_handlers_abi"));
  const auto fill =
      reinterpret_cast<void (*)(Registry&)>(dlsym(library, "spillway_register_handlers"));
  if (abi == nullptr || fill == nullptr)
    throw HandlerLibraryError(
        "--handlers " + path +
        ": is not a handler library; it needs one SPILLWAY_HANDLERS(registry) "
        "{ registry.on(\"Type\", handler); }");
  if (std::string_view(abi()) != SPILLWAY_ABI)
    throw HandlerLibraryError("--handlers " + path + ": was built against [" + abi() +
                              "], this worker is [" SPILLWAY_ABI
                              "]; rebuild it with this worker's headers");
  try {
    registry.set_origin(path);
    fill(registry);
  } catch (const std::exception& error) {
    throw HandlerLibraryError("--handlers " + path + ": SPILLWAY_HANDLERS failed: " + error.what());
  }
}

void add_linked_handlers(Registry& registry) {
  if (spillway_register_handlers != nullptr) spillway_register_handlers(registry);
}

}  // namespace spillway
