#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "processor/cli/commands.hpp"
#include "processor/cli/run_options.hpp"
#include "processor/private_postgres.hpp"

namespace spillway::cli {
namespace {

// One `spillway dev` per folder; the kernel lets go of the lock however the process ends.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder)
      : file_(open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (file_ < 0 || flock(file_, LOCK_EX | LOCK_NB) != 0) {
      if (file_ >= 0) close(file_);
      throw ConfigurationError("another `spillway dev` runs in " + folder.string() +
                               "; stop it, or name another folder with --dir");
    }
  }
  ~FolderLock() { close(file_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_;
};

class StopAtEnd {
 public:
  explicit StopAtEnd(PrivatePostgres& postgres) : postgres_(&postgres) {}
  ~StopAtEnd() {
    try {
      if (postgres_ != nullptr) postgres_->stop();
    } catch (const std::exception& error) {
      std::cerr << "spillway: " << error.what() << '\n';
    }
  }
  StopAtEnd(const StopAtEnd&) = delete;
  StopAtEnd& operator=(const StopAtEnd&) = delete;

  void leave_it() { postgres_ = nullptr; }

 private:
  PrivatePostgres* postgres_;
};

struct Options {
  Common common;
  RunOptions run;
  std::string folder = ".spillway";
  std::vector<std::string> init;
};

int dev(const Options& options) {
  block_signals();
  const std::filesystem::path folder = std::filesystem::absolute(options.folder);
  std::filesystem::create_directories(folder);
  const FolderLock lock(folder);
  PrivatePostgres postgres(folder);
  StopAtEnd stop(postgres);
  postgres.start();
  std::ofstream(folder / "database_url") << postgres.url() << '\n';

  PgTarget target{postgres.url(), "spillway-dev"};
  WorkerOptions worker = options.run.worker_options(target);
  write_logs_at_once(worker.log);
  worker.migrate = true;
  for (const auto& file : options.init) postgres.run_script(file);
  worker.ready = [&](const std::vector<sse::Endpoint>& listening) {
    std::cout << invitation(listening, worker.tls.given(), postgres.url(), options.run.hint)
              << "DATABASE_URL=" << postgres.url() << std::endl;
  };
  if (const auto code = become_supervised(options.run, worker)) return *code;
  // The server, and what is to become of it, stays with the supervisor.
  if (options.run.supervised) stop.leave_it();
  return run_worker(worker);
}

}  // namespace

void add_dev(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("dev", "run, on a private PostgreSQL that is kept in ./.spillway");
  command->add_option("--config", options->common.config, "Options from a TOML file");
  options->run.add_to(*command);
  command->add_option("--dir", options->folder, "Where the private PostgreSQL lives")
      ->capture_default_str();
  command->add_option("--init", options->init,
                      "SQL files to run with psql first; may be given more than once");
  command->callback([&action, options] { action = [options] { return dev(*options); }; });
}

}  // namespace spillway::cli
