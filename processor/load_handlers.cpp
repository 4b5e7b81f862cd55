#include "processor/load_handlers.hpp"

#include <filesystem>
#include <system_error>

#include "processor/declared_reads.hpp"
#include "processor/handler_directory.hpp"
#include "processor/handler_error.hpp"
#include "processor/handler_library.hpp"
#include "processor/handlers_of_type.hpp"

namespace spillway {
namespace {

namespace fs = std::filesystem;

// The file that holds the SELECT: beside a .jq file its .sql, else what registered the handler.
std::string file_of_read(const Registration& registration) {
  fs::path file = registration.origin;
  if (file.extension() == ".jq") file.replace_extension(".sql");
  return file.string();
}

}  // namespace

std::shared_ptr<const Registry> load_handlers(const std::vector<std::string>& paths) {
  auto registry = std::make_shared<Registry>();
  add_linked_handlers(*registry);
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored))
      load_handler_directory(path, *registry);
    else
      load_handler_library(path, *registry);
  }
  for (const std::string& type : registry->types())
    if (type.starts_with(own_types_prefix))
      throw HandlerError("--handlers " + registry->find(type)->front().origin + ": the type \"" +
                         type + "\" begins with \"" + std::string(own_types_prefix) +
                         "\", which is spillway's own; choose another name");
  return registry;
}

void check_reads(const Registry& registry, SqlSession& session) {
  DeclaredReads reads(session);
  for (const std::string& type : registry.types()) {
    for (const Registration& registration : *registry.find(type)) {
      if (registration.reads.empty()) continue;
      session.exec("BEGIN READ ONLY");
      try {
        reads.check(registration.reads);
      } catch (const SqlError& error) {
        session.exec("ROLLBACK");
        throw HandlerError("--handlers " + file_of_read(registration) + ": the read of \"" + type +
                           "\" must be one SELECT that may use `event` (jsonb): " + error.what());
      }
      session.exec("ROLLBACK");
    }
  }
}

}  // namespace spillway
