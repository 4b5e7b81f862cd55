#include <sys/ioctl.h>
#include <unistd.h>

#include <cctype>
#include <iostream>
#include <memory>
#include <span>
#include <stdexcept>

#include "processor/cli/commands.hpp"
#include "processor/cli/dead_text.hpp"
#include "processor/cli/progress_bar.hpp"
#include "processor/dead_letters.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

constexpr std::size_t step = 1000;  // dead letters in one transaction

struct Options {
  Common common;
  DeadFilter filter;
  std::string older_than;
  std::vector<std::int64_t> ids;
  std::int64_t id = 0;
  std::size_t limit = 50;
  bool group = false;
  bool json = false;
  bool all = false;
  bool dry_run = false;
  bool yes = false;
};

void add_filter(CLI::App& command, Options& options) {
  DeadFilter& filter = options.filter;
  command.add_option("--type", filter.types, "Of this event type; may be given more than once")
      ->allow_extra_args(false);  // what follows may be an event's id
  command.add_option("--error", filter.error,
                     "With this text in the error, in upper or lower case");
  command.add_option("--sqlstate", filter.sqlstate,
                     "With this SQLSTATE (23505), one of this class (23), or none");
  command.add_option("--stream", filter.stream, "Of this stream");
  command.add_option("--since", filter.since,
                     "That died at this time or later, e.g. 2026-01-31T12:00:00Z, or 2h for two "
                     "hours ago");
  auto* until =
      command.add_option("--until", filter.until, "That died before this time; written likewise");
  command.add_option("--older-than", options.older_than, "That died longer ago than this, e.g. 7d")
      ->excludes(until);
}

// A time that cannot be read is a usage error.
void read_times(SqlSession& session, Options& options) {
  const auto read = [&](std::string& time, const std::string& option) {
    if (time.empty()) return;
    try {
      time = time_of(session, time);
    } catch (const std::invalid_argument& error) {
      throw ConfigurationError(option + " " + error.what());
    }
  };
  read(options.filter.since, "--since");
  read(options.filter.until, "--until");
  if (options.older_than.empty()) return;
  static_cast<void>(parse_duration(options.older_than, "--older-than"));
  const bool unit = std::isalpha(static_cast<unsigned char>(options.older_than.back())) != 0;
  options.filter.until = time_of(session, options.older_than + (unit ? "" : "s"));
}

std::optional<std::size_t> terminal_width() {
  if (isatty(STDOUT_FILENO) == 0) return std::nullopt;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

template <typename Item>
void print_list(const std::vector<Item>& items, bool as_json) {
  if (!as_json) {
    if (!items.empty()) std::cout << to_table(items, terminal_width());
    return;
  }
  for (const Item& item : items)
    std::cout << to_json(item).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
              << '\n';
}

int list(Options& options) {
  const PgTarget target = target_of(options.common, "spillway-dead");
  check_database(target);
  PgConnection connection(target);
  read_times(connection, options);
  if (options.group) {
    auto groups = group_dead(connection, options.filter, options.limit + 1);
    const bool more = groups.size() > options.limit;
    if (more) groups.pop_back();
    print_list(groups, options.json);
    if (more) std::cerr << "there are more groups; --limit N shows them\n";
    return 0;
  }
  const auto letters = read_dead(connection, options.filter, options.limit);
  print_list(letters, options.json);
  const auto shown = static_cast<std::int64_t>(letters.size());
  if (letters.size() == options.limit) {
    const std::int64_t more = count_dead(connection, options.filter) - shown;
    if (more > 0) std::cerr << more << " more; --limit N shows them, --group sums them up\n";
  }
  if (letters.empty())
    std::cerr << (options.filter.empty() ? "there are no dead letters\n"
                                         : "no dead letter is like that\n");
  return 0;
}

// "event 7 is not dead: it is done".
void complain_about(SqlSession& session, std::int64_t id) {
  const std::string status = status_of(session, id);
  std::cerr << "spillway: "
            << (status.empty() ? "there is no event " + std::to_string(id) + " in spillway.events"
                               : "event " + std::to_string(id) + " is not dead: it is " + status)
            << '\n';
}

int show(const Options& options) {
  const PgTarget target = target_of(options.common, "spillway-dead");
  check_database(target);
  PgConnection connection(target);
  const auto event = find_dead(connection, options.id);
  if (!event) {
    complain_about(connection, options.id);
    return 1;
  }
  std::cout << (options.json ? event->json + "\n" : to_text(*event));
  return 0;
}

// What `retry` and `discard` share.
struct Verb {
  DeadAction action;
  std::string name;  // "retry"
  std::string past;  // "retried"
};

std::string so_many(std::int64_t count) {
  return std::to_string(count) + (count == 1 ? " event" : " events");
}

void check_selection(const Options& options, const Verb& verb) {
  const bool filtered = !options.filter.empty() || !options.older_than.empty();
  const int ways = (options.ids.empty() ? 0 : 1) + (filtered ? 1 : 0) + (options.all ? 1 : 0);
  if (ways == 0)
    throw ConfigurationError("dead " + verb.name + ": name events (spillway dead " + verb.name +
                             " 17 18), or choose by --type, --error, --sqlstate, --stream, "
                             "--since, --until or --older-than, or take --all");
  if (ways > 1)
    throw ConfigurationError("dead " + verb.name +
                             ": write one of these only: event ids, filters, --all");
}

int act_on_ids(SqlSession& session, const Options& options, const Verb& verb) {
  std::int64_t done = 0;
  bool all_were_dead = true;
  for (std::size_t begin = 0; begin < options.ids.size(); begin += step) {
    const auto part =
        std::span(options.ids).subspan(begin, std::min(step, options.ids.size() - begin));
    std::vector<std::int64_t> refused;
    if (options.dry_run) {
      for (const std::int64_t id : part)
        if (!find_dead(session, id)) refused.push_back(id);
    } else {
      refused = act_on_dead(session, verb.action, part);
    }
    done += static_cast<std::int64_t>(part.size() - refused.size());
    for (const std::int64_t id : refused) complain_about(session, id);
    all_were_dead = all_were_dead && refused.empty();
  }
  std::cout << so_many(done) << (options.dry_run ? " would be " : " ") << verb.past << '\n';
  return all_were_dead ? 0 : 1;
}

void ask_before_discarding(const Options& options, std::int64_t count) {
  if (options.yes) return;
  if (isatty(STDIN_FILENO) == 0)
    throw ConfigurationError("dead discard: " + so_many(count) +
                             " would be given up for good; add --yes to do it, or --dry-run to "
                             "only count");
  std::cerr << "Give up " << so_many(count) << " for good? [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer != "y" && answer != "Y" && answer != "yes")
    throw std::runtime_error("nothing was discarded");
}

// In steps, each a transaction: what was done before an interruption stays done.
int act_on_filter(SqlSession& session, Options& options, const Verb& verb) {
  // Those that die again meanwhile are left alone.
  if (options.filter.until.empty()) options.filter.until = time_of(session, "0s");
  const std::int64_t count = count_dead(session, options.filter);
  if (options.dry_run) {
    std::cout << so_many(count) << " would be " << verb.past << '\n';
    return 0;
  }
  if (count > 0 && verb.action == DeadAction::discard) ask_before_discarding(options, count);
  const ProgressBar bar(static_cast<std::uintmax_t>(count));
  std::int64_t done = 0;
  std::int64_t seen = 0;
  try {
    for (std::int64_t last = 0;;) {
      const auto ids = dead_ids(session, options.filter, last, step);
      if (ids.empty()) break;
      const auto refused = act_on_dead(session, verb.action, ids);  // somebody else was quicker
      done += static_cast<std::int64_t>(ids.size() - refused.size());
      seen += static_cast<std::int64_t>(ids.size());
      last = ids.back();
      bar.show(static_cast<std::uintmax_t>(seen), so_many(done) + " " + verb.past);
    }
  } catch (const ConnectionLost& error) {
    bar.finish();
    throw ConnectionLost(std::string(error.what()) + "; " + so_many(done) + " " + verb.past +
                         " before that: write the same again for the rest");
  } catch (const SqlError& error) {
    bar.finish();
    throw SqlError(error.sqlstate(), std::string(error.what()) + "; " + so_many(done) + " " +
                                         verb.past + " before that");
  }
  if (seen > 0) bar.finish();
  std::cout << so_many(done) << " " << verb.past << '\n';
  return 0;
}

int act(Options& options, const Verb& verb) {
  check_selection(options, verb);
  const PgTarget target = target_of(options.common, "spillway-dead");
  check_database(target);
  PgConnection connection(target);
  if (!options.ids.empty()) return act_on_ids(connection, options, verb);
  read_times(connection, options);
  return act_on_filter(connection, options, verb);
}

void add_verb(CLI::App& dead, Action& action, const Verb& verb, const std::string& description) {
  auto options = std::make_shared<Options>();
  CLI::App* command = dead.add_subcommand(verb.name, description);
  add_common(*command, options->common);
  command->add_option("ids", options->ids, "Ids of events");
  add_filter(*command, *options);
  command->add_flag("--all", options->all, "All dead letters");
  command->add_flag("--dry-run", options->dry_run, "Only say how many");
  if (verb.action == DeadAction::discard)
    command->add_flag("--yes", options->yes, "Do not ask before many are given up");
  command->callback(
      [&action, options, verb] { action = [options, verb] { return act(*options, verb); }; });
}

}  // namespace

void add_dead(CLI::App& app, Action& action) {
  CLI::App* dead = app.add_subcommand("dead", "Dead letters: see them, retry them, discard them");
  dead->require_subcommand(1);
  {
    auto options = std::make_shared<Options>();
    CLI::App* command = dead->add_subcommand("list", "Which there are, the newest first");
    add_common(*command, options->common);
    add_filter(*command, *options);
    command->add_option("--limit", options->limit, "How many to show")
        ->check(CLI::Range(1, 10'000'000))
        ->capture_default_str();
    command->add_flag("--group", options->group,
                      "How many of each type and error, whatever numbers the error names");
    command->add_flag("--json", options->json, "As JSON, an object per line");
    command->callback([&action, options] { action = [options] { return list(*options); }; });
  }
  {
    auto options = std::make_shared<Options>();
    CLI::App* command = dead->add_subcommand("show", "All about one, and what can be done");
    add_common(*command, options->common);
    command->add_option("id", options->id, "Id of the event")->required();
    command->add_flag("--json", options->json, "As JSON");
    command->callback([&action, options] { action = [options] { return show(*options); }; });
  }
  add_verb(*dead, action, {DeadAction::retry, "retry", "retried"},
           "Tries events again, with all their attempts");
  add_verb(*dead, action, {DeadAction::discard, "discard", "discarded"},
           "Gives events up for good; they stay in the log");
}

}  // namespace spillway::cli
