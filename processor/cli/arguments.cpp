#include "processor/cli/arguments.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>

namespace spillway::cli {
namespace {

std::string variable_of(const std::string& option) {
  std::string name = "SPILLWAY_";
  for (const char c : option)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

bool is_given(const std::vector<std::string>& arguments, const std::string& option) {
  const std::string flag = "--" + option;
  return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
    return argument == flag || argument.starts_with(flag + "=");
  });
}

bool takes_list(const CLI::Option& option) {
  return option.get_items_expected_max() > 1;
}

bool takes_paths(const std::string& name) {
  return name == "handlers" || name == "auth-key";
}

void add_option(std::vector<std::string>& added, const CLI::Option& option, const std::string& name,
                const std::vector<std::string>& values) {
  if (option.get_items_expected_max() == 0) {  // a flag
    const std::string value = values.empty() ? "true" : values.front();
    if (value == "true" || value == "1" || value == "yes" || value == "on")
      added.push_back("--" + name);
    else if (value != "false" && value != "0" && value != "no" && value != "off" && !value.empty())
      throw CLI::ValidationError("--" + name, "must be true or false, not \"" + value + "\"");
    return;
  }
  for (const auto& value : values) added.push_back("--" + name + "=" + value);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// Does any command below have it?
bool has_option(const CLI::App& app, const std::string& name) {
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  return std::any_of(commands.begin(), commands.end(), [&](const CLI::App* command) {
    return command->get_option_no_throw("--" + name) != nullptr || has_option(*command, name);
  });
}

std::string config_path(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--config" && i + 1 < arguments.size()) return arguments[i + 1];
    if (arguments[i].starts_with("--config=")) return arguments[i].substr(9);
  }
  return {};
}

}  // namespace

std::vector<std::string> with_other_sources(
    const CLI::App& app, const std::vector<std::string>& arguments,
    const std::function<std::optional<std::string>(const std::string&)>& environment) {
  if (arguments.empty() || arguments.front().starts_with("-")) return arguments;
  // `run`, or `dead list`: as many words as there are commands below commands.
  const CLI::App* command = &app;
  std::size_t words = 0;
  for (; words < arguments.size(); ++words) {
    const auto named = command->get_subcommands(
        [&](const CLI::App* candidate) { return candidate->get_name() == arguments[words]; });
    if (named.empty()) break;
    command = named.front();
  }
  const std::string& command_name = arguments.front();
  if (words == 0)
    throw CLI::ExtrasError("there is no command \"" + command_name + "\"; see `spillway --help`",
                           CLI::ExitCodes::ExtrasError);
  const bool below = words < arguments.size() && !arguments[words].starts_with("-");
  if (below && !command->get_subcommands({}).empty())
    throw CLI::ExtrasError("`" + command_name + "` has no command \"" + arguments[words] +
                               "\"; see `spillway " + command_name + " --help`",
                           CLI::ExitCodes::ExtrasError);

  std::vector<std::string> added;
  for (const CLI::Option* option : command->get_options()) {
    const auto& names = option->get_lnames();
    if (names.empty() || names.front() == "help" || is_given(arguments, names.front())) continue;
    const auto value = environment(variable_of(names.front()));
    if (!value) continue;
    add_option(added, *option, names.front(),
               takes_list(*option) ? split(*value, takes_paths(names.front()) ? ':' : ',')
                                   : std::vector<std::string>{*value});
  }

  std::string path = config_path(arguments);
  if (path.empty()) path = config_path(added);
  if (!path.empty()) {
    std::ifstream file(path);
    if (!file) throw CLI::FileError("--config " + path + ": cannot be read");
    std::vector<CLI::ConfigItem> items;
    try {
      items = CLI::ConfigTOML().from_config(file);
    } catch (const std::exception& error) {
      throw CLI::FileError("--config " + path + ": " + error.what());
    }
    for (const auto& item : items) {
      if (item.name == "++" || item.name == "--") continue;  // CLI11's marks of a section's ends
      const bool own_section = item.parents.size() == 1 && item.parents.front() == command_name;
      if (!item.parents.empty() && !own_section) continue;
      std::string name = item.name;
      std::replace(name.begin(), name.end(), '_', '-');
      const CLI::Option* option = command->get_option_no_throw("--" + name);
      if (option == nullptr) {
        // At the top of the file stands what is meant for any command.
        const bool of_another =
            has_option(own_section ? *app.get_subcommand(command_name) : app, name);
        if (of_another) continue;
        throw CLI::ConfigError("--config " + path + ": `" + command_name + "` has no option \"" +
                               item.name + "\"; see `spillway " + command_name + " --help`");
      }
      if (is_given(arguments, name) || is_given(added, name)) continue;
      add_option(added, *option, name, item.inputs);
    }
  }

  const auto behind = arguments.begin() + static_cast<std::ptrdiff_t>(words);
  std::vector<std::string> all(arguments.begin(), behind);
  all.insert(all.end(), added.begin(), added.end());
  all.insert(all.end(), behind, arguments.end());
  return all;
}

}  // namespace spillway::cli
