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
      PgConnection connection(target_of(options->common, "spillway-migrate").direct());
      if (options->status) {
        const int version = schema_version(connection);
        for (const Migration& migration : list_migrations(connection)) {
          std::cout << (migration.applied ? "applied  " : "pending  ") << migration.version << "  "
                    << migration.name;
          if (migration.applied) std::cout << "  " << migration.applied_at;
          if (migration.version > newest_schema_version()) std::cout << "  (of a newer spillway)";
          std::cout << '\n';
        }
        if (version == 0)
          std::cout << "the database has no spillway schema\n";
        else
          std::cout << "schema version " << version << '\n';
        if (version > newest_schema_version()) throw newer_than_binary(version);
        return 0;
      }
      const auto applied = migrate(
          connection, [](const std::string& line) { std::cerr << "spillway: " << line << '\n'; });
      for (const auto& name : applied) std::cout << "applied " << name << '\n';
      std::cout << "schema version " << newest_schema_version()
                << (applied.empty() ? ", nothing to do" : "") << '\n';
      return 0;
    };
  });
}

}  // namespace spillway::cli
