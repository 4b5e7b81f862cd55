#include <iostream>
#include <memory>

#include "processor/cli/commands.hpp"
#include "processor/migrator.hpp"

namespace spillway::cli {

void add_migrate(CLI::App& app, Action& action) {
  struct Options {
    Common common;
    bool status = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("migrate", "Bring the schema up; safe from many processes at once");
  add_common(*command, options->common);
  command->add_flag("--status", options->status, "Only say which migrations are applied");
  command->callback([&action, options] {
    action = [options] {
      PgConnection connection(target_of(options->common, "spillway-migrate"));
      if (options->status) {
        for (const Migration& migration : list_migrations(connection))
          std::cout << (migration.applied ? "applied  " : "pending  ") << migration.version << "  "
                    << migration.name << '\n';
        if (schema_version(connection) > newest_schema_version()) check_schema_version(connection);
        return 0;
      }
      const auto applied = migrate(connection);
      for (const auto& name : applied) std::cout << "applied " << name << '\n';
      std::cout << "schema version " << newest_schema_version()
                << (applied.empty() ? ", nothing to do" : "") << '\n';
      return 0;
    };
  });
}

}  // namespace spillway::cli
