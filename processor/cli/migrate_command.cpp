#include <charconv>
#include <iostream>
#include <memory>

#include "processor/cli/commands.hpp"
#include "processor/lane_setting.hpp"
#include "processor/migrator.hpp"
#include "processor/queue_store.hpp"

namespace spillway::cli {

void add_migrate(CLI::App& app, Action& action) {
  struct Options {
    Common common;
    bool status = false;
    int lanes = 0;  // 0: as they are
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("migrate", "Bring the schema up; safe from many processes at once");
  add_common(*command, options->common);
  CLI::Option* status =
      command->add_flag("--status", options->status, "Only say which migrations are applied");
  command
      ->add_option("--lanes", options->lanes,
                   "Share the queue out over so many lanes from now on: about twice the runners of "
                   "all workers. 8 in a new database; without the option they stay as they are")
      ->check([](const std::string& text) {
        int number = 0;
        const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
        const bool good = end.ec == std::errc{} && end.ptr == text.data() + text.size() &&
                          number >= 1 && number <= most_lanes;
        return good ? std::string()
                    : '"' + text + "\": write a number from 1 to " + std::to_string(most_lanes);
      })
      ->excludes(status);
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
      const auto log = [](const std::string& line) { std::cerr << "spillway: " << line << '\n'; };
      const auto applied = migrate(connection, log);
      for (const auto& name : applied) std::cout << "applied " << name << '\n';
      std::cout << "schema version " << newest_schema_version()
                << (applied.empty() ? ", nothing to do" : "") << '\n';
      if (options->lanes != 0) {
        const bool changed = set_lanes(connection, options->lanes, log);
        std::cout << "lanes " << options->lanes << (changed ? "" : ", nothing to do") << '\n';
      }
      return 0;
    };
  });
}

}  // namespace spillway::cli
