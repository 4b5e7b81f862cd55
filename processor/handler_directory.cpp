#include "processor/handler_directory.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <system_error>
#include <vector>

#include "processor/handler_error.hpp"
#include "processor/jq_program.hpp"

namespace spillway {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) throw HandlerError("--handlers " + file.string() + ": cannot be read");
  return text;
}

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n;") == std::string::npos;
}

}  // namespace

void load_handler_directory(const std::string& path, Registry& registry) {
  std::vector<fs::path> programs;
  std::vector<fs::path> reads;
  try {
    for (const auto& entry : fs::directory_iterator(path)) {
      const fs::path& file = entry.path();
      // Editors leave hidden copies behind.
      if (file.filename().string().starts_with(".") || !entry.is_regular_file()) continue;
      if (file.extension() == ".jq") programs.push_back(file);
      if (file.extension() == ".sql") reads.push_back(file);
    }
  } catch (const fs::filesystem_error& error) {
    throw HandlerError("--handlers " + path + ": cannot be read: " + error.code().message());
  }
  std::sort(programs.begin(), programs.end());
  std::sort(reads.begin(), reads.end());
  for (const fs::path& file : reads) {
    const fs::path program = fs::path(file).replace_extension(".jq");
    if (!std::binary_search(programs.begin(), programs.end(), program))
      throw HandlerError("--handlers " + file.string() + ": nothing uses these rows; write " +
                         program.filename().string() + " beside it, or take it away");
  }
  if (programs.empty())
    throw HandlerError("--handlers " + path +
                       ": has no handlers in it; write one as Type.jq, e.g. CommentAdded.jq");

  for (const fs::path& file : programs) {
    auto program = std::make_shared<const JqProgram>(file.string(), read(file));
    registry.set_origin(file.string());
    auto registered = registry.on(
        file.stem().string(),
        [program = std::move(program)](const Event& event) { return program->run(event); });
    const fs::path select = fs::path(file).replace_extension(".sql");
    if (!std::binary_search(reads.begin(), reads.end(), select)) continue;
    std::string text = read(select);
    if (is_blank(text))
      throw HandlerError("--handlers " + select.string() +
                         ": is empty; write one SELECT that may use `event` (jsonb)");
    registered.reads(std::move(text));
  }
}

}  // namespace spillway
