#include "processor/cli/cli.hpp"

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>

#include "processor/cli/arguments.hpp"
#include "processor/cli/commands.hpp"
#include "processor/enqueue.hpp"
#include "processor/handler_error.hpp"
#include "processor/journal.hpp"
#include "processor/migrator.hpp"
#include "processor/worker.hpp"
#include "spillway/version.hpp"

namespace spillway::cli {
namespace {

enum ExitCode { done = 0, failed = 1, usage = 2, unreachable = 3, wrong_schema = 4 };

int complain(ExitCode code, const std::string& text) {
  if (logs_are_json())
    spdlog::error("{}", text);
  else
    std::cerr << "spillway: " << hide_password(text) << '\n';
  return code;
}

std::optional<std::string> environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): before threads
  if (value == nullptr) return std::nullopt;
  return value;
}

}  // namespace

int run(int argc, char** argv) {
  // Logs go to stderr; stdout is for what a command was asked for.
  write_logs_at_once({});

  CLI::App app(
      "spillway: events in by SQL, effects out in one transaction, live to the browser.\n"
      "Every option is also SPILLWAY_<OPTION> in the environment, or a line of --config FILE "
      "(TOML);\n"
      "flags win over the environment, the environment over the file.",
      "spillway");
  app.set_version_flag("--version", "spillway " SPILLWAY_VERSION);
  app.require_subcommand(1);
  Action action;
  add_run(app, action);
  add_dev(app, action);
  add_migrate(app, action);
  add_enqueue(app, action);
  add_replay(app, action);
  add_status(app, action);
  add_dead(app, action);
  add_prune(app, action);
  add_tail(app, action);
  add_trace(app, action);
  add_try(app, action);
  add_token(app, action);

  try {
    std::vector<std::string> arguments =
        with_other_sources(app, {argv + 1, argv + argc}, environment);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? done : usage;
  }

  try {
    return action();
  } catch (const ConfigurationError& error) {
    return complain(usage, error.what());
  } catch (const BadEvent& error) {
    return complain(usage, error.what());
  } catch (const HandlerError& error) {
    return complain(usage, error.what());
  } catch (const SchemaVersionError& error) {
    return complain(wrong_schema, error.what());
  } catch (const PoolerError& error) {
    return complain(usage, error.what());
  } catch (const ConnectionLost& error) {
    return complain(unreachable, std::string("the database cannot be reached: ") + error.what());
  } catch (const SqlError& error) {
    return complain(failed, std::string(error.what()) + " (SQLSTATE " + error.sqlstate() + ")");
  } catch (const std::exception& error) {
    return complain(failed, error.what());
  }
}

}  // namespace spillway::cli
