#include <iostream>
#include <memory>

#include "processor/cli/commands.hpp"
#include "processor/cli/run_options.hpp"

namespace spillway::cli {

void add_run(CLI::App& app, Action& action) {
  struct Options {
    Common common;
    RunOptions run;
    bool migrate = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Worker and streams in one process");
  add_common(*command, options->common);
  options->run.add_to(*command);
  command->add_flag("--migrate", options->migrate, "Bring the schema up first");
  command->callback([&action, options] {
    action = [options] {
      block_signals();
      const PgTarget target = target_of(options->common, "spillway-run");
      WorkerOptions worker = options->run.worker_options(target);
      write_logs_at_once(worker.log);
      worker.migrate = options->migrate;
      worker.ready = [options, shown = hide_password(target.url)](const auto& listening) {
        if (!options->run.hint.empty())
          std::cout << invitation(listening, options->run.connections.tls_files().given(), shown,
                                  options->run.hint)
                    << std::flush;
      };
      if (const auto code = become_supervised(options->run, worker)) return *code;
      return run_worker(worker);
    };
  });
}

}  // namespace spillway::cli
