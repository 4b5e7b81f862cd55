#include <chrono>
#include <iomanip>
#include <iostream>
#include <limits>
#include <memory>
#include <thread>

#include "processor/cli/commands.hpp"
#include "processor/cli/progress_bar.hpp"
#include "processor/retention.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Options {
  Common common;
  std::string older_than;
  bool dead = false;
  bool dry_run = false;
  std::size_t batch = 5000;
  int share = 20;  // percent of the time
};

// Another process, or a long transaction, is in the way: for how long we try.
constexpr milliseconds busy_patience{10'000};
constexpr milliseconds busy_pause{200};

// Room for what is written until a worker's upkeep makes more.
constexpr std::int64_t partition_after_closing = 1000;

void row(const char* what, std::uint64_t count, const std::string& note) {
  std::cout << std::left << std::setw(12) << what << count << ' ' << note << std::endl;
}

class Prune {
 public:
  Prune(SqlSession& session, const Options& options, milliseconds age)
      : session_(session), options_(options), store_(session), age_(age) {
    before_ = store_.time_before_now(age);
    std::cout << (options_.dry_run ? "would be removed" : "removed") << ", older than " << before_
              << ":\n";
  }

  bool run() {
    row("webhooks", in_steps([&](std::size_t most) {
          return store_.prune_webhooks(before_, most, options_.dry_run);
        }),
        "finished");
    row("responses", in_steps([&](std::size_t most) {
          return store_.prune_results(before_, most, options_.dry_run);
        }),
        "");
    const bool events_whole = events();
    const bool broadcasts_whole = broadcasts();
    return events_whole && broadcasts_whole;
  }

 private:
  void rest(steady_clock::duration took) const {
    std::this_thread::sleep_for(took * (100 - options_.share) / options_.share);
  }

  template <typename Step>
  std::size_t in_steps(Step&& step) {
    if (options_.dry_run) return step(std::numeric_limits<int>::max());
    for (std::size_t removed = 0;;) {
      const auto begin = steady_clock::now();
      const std::size_t now = step(options_.batch);
      removed += now;
      if (now < options_.batch) return removed;
      rest(steady_clock::now() - begin);
    }
  }

  // False when somebody was in the way for too long.
  bool events() {
    EventPruner pruner({before_, options_.batch, options_.dead, options_.dry_run});
    const auto end = static_cast<std::uintmax_t>(pruner.end(session_));
    const ProgressBar bar(end);
    std::uint64_t removed = 0;
    std::uint64_t seen = 0;
    const auto label = [&] {
      return std::to_string(removed) + " of " + std::to_string(seen) + " events";
    };
    auto deadline = steady_clock::now() + busy_patience;
    for (;;) {
      const auto begin = steady_clock::now();
      const EventPruner::Step step = pruner.step(session_);
      if (step.busy) {
        if (begin > deadline) break;
        std::this_thread::sleep_for(busy_pause);
        continue;
      }
      deadline = steady_clock::now() + busy_patience;
      removed += static_cast<std::uint64_t>(step.pruned);
      seen += static_cast<std::uint64_t>(step.looked_at);
      bar.show(step.last ? end : static_cast<std::uintmax_t>(pruner.last_id()), label());
      if (step.last) break;
      rest(steady_clock::now() - begin);
    }
    bar.finish();
    row("events", removed, options_.dead ? "done or dead" : "done");
    if (steady_clock::now() <= deadline) return true;
    std::cerr << "spillway: events: another process is pruning; run this again to go on\n";
    return false;
  }

  bool broadcasts() {
    if (options_.dry_run) {
      const auto old = store_.old_broadcasts(before_);
      row("broadcasts", static_cast<std::uint64_t>(old.positions),
          "in whole partitions, " + std::to_string(old.bytes / 1'000'000) + " MB");
      return true;
    }
    const std::int64_t floor = this->floor();
    const bool whole =
        unless_busy([&] { return store_.extend_broadcasts(partition_after_closing, age_); }) &&
        unless_busy([&] { return store_.drop_broadcasts(age_, std::nullopt); });
    const auto gone = this->floor() - floor;
    row("broadcasts", static_cast<std::uint64_t>(gone), "in whole partitions");
    if (!whole)
      std::cerr << "spillway: broadcasts: a long transaction holds spillway.broadcasts; run this "
                   "again to go on\n";
    return whole;
  }

  std::int64_t floor() {
    return session_.exec("SELECT floor FROM spillway.stream_head").integer(0, 0);
  }

  // Again and again while there is something to do.
  template <typename Step>
  bool unless_busy(Step&& step) {
    auto deadline = steady_clock::now() + busy_patience;
    for (;;) {
      switch (step()) {
        case RetentionStore::Outcome::nothing:
          return true;
        case RetentionStore::Outcome::done:
          deadline = steady_clock::now() + busy_patience;
          break;
        case RetentionStore::Outcome::busy:
          if (steady_clock::now() > deadline) return false;
          std::this_thread::sleep_for(busy_pause);
      }
    }
  }

  SqlSession& session_;
  const Options& options_;
  RetentionStore store_;
  milliseconds age_;
  std::string before_;
};

}  // namespace

void add_prune(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "prune", "Remove done events, finished webhooks, responses and broadcasts that are old");
  add_common(*command, options->common);
  command->add_option("--older-than", options->older_than,
                      "How old what goes must be at least, e.g. 30d, 12h or 90m");
  command->add_flag("--dead", options->dead, "Dead events and their dead letters too");
  command->add_flag("--dry-run", options->dry_run, "Only count; remove nothing");
  command->add_option("--batch", options->batch, "Rows of one transaction, at most")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command
      ->add_option("--share", options->share,
                   "Percent of the time that it may work; it pauses in the rest")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->callback([&action, options] {
    action = [options] {
      const auto age = options->older_than.empty() ? std::nullopt
                                                   : parse_age(options->older_than, "--older-than");
      if (!age)
        throw ConfigurationError(
            "prune: say how old what goes must be at least, e.g. spillway prune --older-than 30d");
      const PgTarget target = target_of(options->common, "spillway-prune");
      check_database(target);
      PgConnection connection(target);
      return Prune(connection, *options, *age).run() ? 0 : 1;
    };
  });
}

}  // namespace spillway::cli
