#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <thread>

#include "processor/backoff.hpp"
#include "processor/cli/commands.hpp"
#include "processor/journal.hpp"
#include "processor/load_handlers.hpp"
#include "processor/log_effect.hpp"
#include "processor/replay.hpp"
#include "processor/replay_guard.hpp"
#include "processor/retry_policy.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int interrupted = 130;  // ended by a signal; can go on

struct Options {
  Common common;
  std::vector<std::string> handlers;
  std::optional<std::int64_t> from, to;
  std::vector<std::string> types, streams;
  std::optional<std::string> since, until;
  std::vector<std::string> only, include;
  bool include_dead = false;
  std::vector<std::string> truncate;
  bool dry_run = false;
  std::string name, resume;
  std::string on_error = "stop";
  std::size_t batch = 1000;
  double rate = 0;  // events per second; 0: as fast as it goes
  std::string connect_timeout = "60s";
  bool list = false;
  bool json = false;
};

std::size_t kind_of_name(const std::string& option, const std::string& name) {
  const auto kind = effect_kind(name);
  if (!kind)
    throw ConfigurationError(option + " " + name + ": there is no such kind of effect; there is " +
                             effect_kind_list());
  return *kind;
}

EffectKinds kinds_of(const Options& options) {
  EffectKinds kinds = options.only.empty() ? default_replay_kinds() : EffectKinds::none();
  for (const std::string& name : options.only) kinds.insert(kind_of_name("--only", name));
  for (const std::string& name : options.include) kinds.insert(kind_of_name("--include", name));
  return kinds;
}

ReplayRequest request_of(const Options& options) {
  if (!options.from && !options.since)
    throw ConfigurationError(
        "replay: say where to begin, with --from ID (1 is the first event) or --since TIME; or go "
        "on with one that was begun, with --resume NAME");
  if (options.from && options.to && *options.from > *options.to)
    throw ConfigurationError("replay: --from " + std::to_string(*options.from) +
                             " is behind --to " + std::to_string(*options.to));
  ReplayRequest request;
  request.from = options.from.value_or(1);
  request.to = options.to;
  request.types = options.types;
  request.streams = options.streams;
  request.kinds = kinds_of(options);
  request.include_dead = options.include_dead;
  request.dry_run = options.dry_run;
  request.truncate = options.truncate;
  return request;
}

// SIGINT, SIGTERM or SIGHUP: the step in hand is finished. The second one ends the process at once,
// which loses no more than that step.
class StopSignal {
 public:
  StopSignal() : thread_([this] { watch(); }) {}
  ~StopSignal() { ended_ = true; }
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  [[nodiscard]] bool asked() const { return asked_; }
  void rest(steady_clock::duration most) const {
    for (const auto until = steady_clock::now() + most; !asked_ && steady_clock::now() < until;) {
      const auto left = until - steady_clock::now();
      std::this_thread::sleep_for(std::min<steady_clock::duration>(left, milliseconds(20)));
    }
  }

 private:
  void watch() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
    const timespec tick{0, 20'000'000};
    while (!ended_)
      if (sigtimedwait(&signals, nullptr, &tick) > 0 && asked_.exchange(true)) _exit(interrupted);
  }
  std::atomic<bool> asked_{false};
  std::atomic<bool> ended_{false};
  std::jthread thread_;
};

int percent_of(const ReplayState& state) {
  if (state.next > state.last) return 100;
  const auto whole = static_cast<double>(state.last - state.first + 1);
  return static_cast<int>(static_cast<double>(state.next - state.first) / whole * 100);
}

// On a terminal a bar that is drawn over; else a line now and then.
class Progress {
 public:
  explicit Progress(const ReplayState& state)
      : terminal_(isatty(STDERR_FILENO) == 1), begun_(state), begin_(steady_clock::now()) {}
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(const ReplayState& state) {
    const auto now = steady_clock::now();
    const bool last = state.next > state.last;
    if (now < next_ && !(terminal_ && last)) return;
    const std::string text = line(state, std::chrono::duration<double>(now - begin_).count());
    if (terminal_) {
      const int percent = percent_of(state);
      const auto filled = static_cast<std::size_t>(percent * 30 / 100);
      std::string bar =
          "[" + std::string(filled, '#') + std::string(30 - filled, ' ') + "] " + text;
      winsize size{};
      // What does not fit would leave a line behind at every redraw.
      if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 &&
          bar.size() >= size.ws_col)
        bar.resize(size.ws_col - 1);
      std::cerr << '\r' << bar << "\x1b[K" << std::flush;
      drawn_ = true;
      next_ = now + milliseconds(100);
    } else {
      std::cerr << "spillway: " << state.name << ": " << text << '\n';
      next_ = now + milliseconds(10'000);
    }
  }
  void finish() {
    if (drawn_) std::cerr << '\n';
    drawn_ = false;
  }

 private:
  [[nodiscard]] std::string line(const ReplayState& state, double seconds) const {
    std::string text = std::to_string(percent_of(state)) + " %, event " +
                       std::to_string(std::min(state.next - 1, state.last)) + " of " +
                       std::to_string(state.last) + ", " + std::to_string(state.events) +
                       " replayed";
    if (state.failed > 0) text += ", " + std::to_string(state.failed) + " failed";
    if (seconds < 0.5) return text;
    char rate[32];
    std::snprintf(rate, sizeof rate, ", %.0f/s",
                  static_cast<double>(state.events - begun_.events) / seconds);
    text += rate;
    const auto walked = static_cast<double>(state.next - begun_.next);
    if (state.next <= state.last && walked > 0)
      text += ", " +
              std::to_string(static_cast<long long>(
                  static_cast<double>(state.last - state.next + 1) / walked * seconds)) +
              " s left";
    return text;
  }

  bool terminal_;
  bool drawn_ = false;
  ReplayState begun_;  // as it was when this process took it
  steady_clock::time_point begin_;
  steady_clock::time_point next_ = begin_ + milliseconds(terminal_ ? 0 : 2000);
};

// The command that goes on with it.
std::string resume_command(const Options& options, const ReplayState& state) {
  const auto word = [](const std::string& text) {
    const bool plain = !text.empty() &&
                       text.find_first_not_of(
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:") ==
                           std::string::npos;
    return plain ? text : shell_quoted(text);
  };
  std::string command = "spillway replay --resume " + word(state.name);
  for (const std::string& path : options.handlers) command += " --handlers " + word(path);
  return command;
}

void print_summary(const ReplayState& state) {
  const bool dry = state.request.dry_run;
  std::cout << state.name << ": events " << state.first << " to "
            << std::min(state.next - 1, state.last) << ": " << state.events
            << (dry ? " handled in a dry run, " : " replayed, ") << state.failed << " failed\n";
  for (std::size_t kind = 0; kind < effect_kind_count; ++kind) {
    if (state.asked[kind] == 0) continue;
    std::cout << "  " << effect_kind_names()[kind] << ' ' << state.asked[kind]
              << (state.request.kinds.contains(kind) ? "" : " (not applied: not asked for)")
              << '\n';
  }
  for (const auto& failure : state.failures) std::cout << "  failed: " << failure.error << '\n';
  if (state.failed > static_cast<std::int64_t>(state.failures.size()))
    std::cout << "  and " << state.failed - static_cast<std::int64_t>(state.failures.size())
              << " more\n";
}

std::string state_word(const ReplayState& state) {
  if (state.finished_at) return "finished";
  if (state.running) return "running";
  return state.last_error.empty() ? "interrupted" : "stopped";
}

json json_of(const ReplayState& state) {
  const auto or_null = [](const std::string& text) { return text.empty() ? json() : json(text); };
  json asked = json::object();
  for (std::size_t kind = 0; kind < effect_kind_count; ++kind)
    if (state.asked[kind] > 0) asked[std::string(effect_kind_names()[kind])] = state.asked[kind];
  json failures = json::array();
  for (const auto& failure : state.failures)
    failures.push_back({{"event_id", failure.event_id}, {"error", failure.error}});
  return {{"name", state.name},
          {"state", state_word(state)},
          {"request", to_json(state.request)},
          {"first_id", state.first},
          {"last_id", state.last},
          {"next_id", state.next},
          {"percent", percent_of(state)},
          {"events", state.events},
          {"failed", state.failed},
          {"effects", std::move(asked)},
          {"failures", std::move(failures)},
          {"run_by", or_null(state.run_by)},
          {"started_at", state.started_at},
          {"updated_at", state.updated_at},
          {"finished_at", or_null(state.finished_at.value_or(""))},
          {"last_error", or_null(state.last_error)}};
}

int list_replays(const Options& options) {
  const PgTarget target = target_of(options.common, "spillway-replay");
  check_database(target);
  PgConnection connection(target);
  const auto replays = ReplayStore(connection).list();
  if (options.json) {
    json all = json::array();
    for (const ReplayState& state : replays) all.push_back(json_of(state));
    std::cout << all.dump(2) << '\n';
    return 0;
  }
  for (const ReplayState& state : replays) {
    std::cout << state.name << "  " << state_word(state) << "  " << percent_of(state)
              << " %  events " << state.first << " to " << state.last << "  replayed "
              << state.events << "  failed " << state.failed
              << (state.request.dry_run ? "  dry run" : "") << "  since " << state.started_at
              << '\n';
    if (state.running && !state.run_by.empty()) std::cout << "    run by " << state.run_by << '\n';
    if (!state.last_error.empty()) std::cout << "    " << state.last_error << '\n';
  }
  return 0;
}

std::string me() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return "process " + std::to_string(getpid()) + " on host " + host;
}

// The replay to run: one that was begun, or a new one.
ReplayState open_replay(const Options& options, ReplayStore& store) {
  if (!options.resume.empty()) {
    if (auto found = store.find(options.resume)) return *std::move(found);
    throw ConfigurationError("--resume " + options.resume +
                             ": there is no such replay; `spillway replay --list` shows them");
  }
  ReplayRequest request = request_of(options);
  try {
    if (options.since) request.since = store.absolute_time(*options.since);
  } catch (const std::invalid_argument& error) {
    throw ConfigurationError(std::string("--since: ") + error.what());
  }
  try {
    if (options.until) request.until = store.absolute_time(*options.until);
  } catch (const std::invalid_argument& error) {
    throw ConfigurationError(std::string("--until: ") + error.what());
  }
  if (!options.name.empty()) {
    if (auto found = store.find(options.name)) {
      if (found->request == request) return *std::move(found);
      throw ConfigurationError("--name " + options.name +
                               ": there is a replay of that name, of other events or effects; go "
                               "on with it by --resume " +
                               options.name + ", or choose another name");
    }
  }
  try {
    return store.begin(options.name, request);
  } catch (const std::invalid_argument& error) {
    throw ConfigurationError(std::string("--truncate: ") + error.what());
  }
}

// Steps at the pace asked for, until there is a reason to end.
class Run {
 public:
  Run(const Options& options, const PgTarget& target, const HandlerSet& handlers, ReplayState state)
      : options_(options), target_(target), handlers_(handlers), state_(std::move(state)) {
    replay_options_.batch = options.batch;
    // A step of more than a fifth of a second's worth would be a burst.
    if (options.rate > 0)
      replay_options_.batch = std::clamp<std::size_t>(
          static_cast<std::size_t>(std::min(options.rate, 1e9) / 5), 1, options.batch);
    replay_options_.skip_failures = options.on_error == "skip";
    replay_options_.log = [](const LogOrigin& origin, const Log& log) {
      write_log_at_once(line_of(origin, log));
    };
  }

  // The exit code.
  int run() {
    const auto patience = parse_duration(options_.connect_timeout, "--connect-timeout");
    const StopSignal stop;
    Progress progress(state_);
    Backoff backoff;
    std::optional<steady_clock::time_point> away_since;
    const auto wait_for_database = [&](const std::exception& error) {
      const auto now = steady_clock::now();
      if (!away_since) {
        progress.finish();
        std::cerr << "spillway: the database is away, waiting for it: "
                  << hide_password(error.what()) << '\n';
      }
      away_since = away_since.value_or(now);
      if (stop.asked() || now - *away_since > patience) return false;
      stop.rest(backoff.next());
      return true;
    };
    for (;;) {
      try {
        PgConnection session(target_);
        const ReplayGuard guard(target_, state_.id, me());
        Replay replay(session, handlers_, state_.id, replay_options_);
        for (;;) {
          state_ = replay.state();
          if (stop.asked()) return end(progress, Replay::Outcome::more);
          const std::int64_t before = state_.events + state_.failed;
          const Replay::Outcome outcome = replay.step();
          state_ = replay.state();
          away_since.reset();
          backoff.reset();
          if (outcome == Replay::Outcome::again) {
            stop.rest(milliseconds(20));
            continue;
          }
          progress.show(state_);
          if (outcome != Replay::Outcome::more) return end(progress, outcome);
          pace(stop, state_.events + state_.failed - before);
        }
      } catch (const ReplayHeld& error) {
        // Our own connection of before may not have been found dead yet.
        if (!away_since || !wait_for_database(error)) throw;
      } catch (const ConnectionLost& error) {
        if (!wait_for_database(error)) return give_up(progress, error);
      } catch (const SqlError& error) {
        if (classify(error.sqlstate()) != FailureClass::outage) throw;
        if (!wait_for_database(error)) return give_up(progress, error);
      }
    }
  }

 private:
  void pace(const StopSignal& stop, std::int64_t events) {
    if (options_.rate <= 0) return;
    const auto now = steady_clock::now();
    const std::chrono::duration<double> worth(static_cast<double>(events) / options_.rate);
    due_ = std::max(due_, now) + std::chrono::duration_cast<steady_clock::duration>(worth);
    if (due_ > now) stop.rest(due_ - now);
  }

  int end(Progress& progress, Replay::Outcome outcome) {
    progress.finish();
    if (outcome == Replay::Outcome::finished) {
      print_summary(state_);
      return state_.request.dry_run && state_.failed > 0 ? 1 : 0;
    }
    if (outcome == Replay::Outcome::stopped) {
      std::cerr << "spillway: " << state_.last_error
                << "\nspillway: the events before it are replayed; mend that and go on with: "
                << resume_command(options_, state_) << "  (or pass it over: --on-error=skip)\n";
      return 1;
    }
    std::cerr << "spillway: stopped before event " << state_.next
              << "; go on with: " << resume_command(options_, state_) << '\n';
    return interrupted;
  }

  int give_up(Progress& progress, const std::exception& error) {
    progress.finish();
    throw ConnectionLost(std::string(error.what()) +
                         "; go on later with: " + resume_command(options_, state_));
  }

  const Options& options_;
  const PgTarget& target_;
  const HandlerSet& handlers_;
  ReplayState state_;
  ReplayOptions replay_options_;
  steady_clock::time_point due_{};
};

int replay(const Options& options) {
  block_signals();  // before there are threads: those of handler libraries count
  if (options.list) return list_replays(options);
  if (options.resume.empty()) static_cast<void>(request_of(options));  // what needs no database
  const auto registry = load_handlers(options.handlers);
  if (registry->types().empty())
    throw ConfigurationError("replay: name a directory or library of handlers with --handlers");
  for (const std::string& type : options.types)
    if (registry->find(type) == nullptr && registry->find("*") == nullptr)
      throw ConfigurationError("--type " + type + ": the handlers have none for that type");
  const PgTarget target = target_of(options.common, "spillway-replay");
  check_database(target);
  PgConnection connection(target);
  check_reads(*registry, connection);
  ReplayStore store(connection);
  ReplayState state = open_replay(options, store);
  if (state.finished_at) {
    std::cerr << "spillway: replay " << state.name << " was finished at " << *state.finished_at
              << '\n';
    print_summary(state);
    return 0;
  }
  const HandlerSet handlers(registry);
  return Run(options, target, handlers, std::move(state)).run();
}

}  // namespace

void add_replay(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "replay", "Run events of the log through the handlers again, while live work goes on");
  add_common(*command, options->common);
  command->add_option("--handlers", options->handlers,
                      "Directory of jq handlers, or shared library; may be given more than once");
  std::vector<CLI::Option*> request;
  request.push_back(command->add_option("--from", options->from, "Id of the first event")
                        ->check(CLI::PositiveNumber));
  request.push_back(
      command->add_option("--to", options->to, "Id of the last one; default: the last there is")
          ->check(CLI::PositiveNumber));
  request.push_back(command->add_option("--type", options->types,
                                        "Events of this type only; may be given more than once"));
  request.push_back(command->add_option("--stream", options->streams,
                                        "Events of this stream only; may be given more than once"));
  request.push_back(command->add_option("--since", options->since,
                                        "Events created at this time or later, e.g. "
                                        "2026-01-31T12:00:00Z"));
  request.push_back(
      command->add_option("--until", options->until, "Events created before this time"));
  auto* only =
      command
          ->add_option("--only", options->only,
                       "Kinds of effects to apply; default: all but SSEBroadcast, TriggerWebhook, "
                       "ScheduleEvent and Log")
          ->delimiter(',');
  request.push_back(only);
  request.push_back(command
                        ->add_option("--include", options->include,
                                     "Kinds of effects to apply besides those of the default")
                        ->delimiter(',')
                        ->excludes(only));
  request.push_back(command->add_flag("--include-dead", options->include_dead,
                                      "Dead letters too, which stay what they are"));
  auto* truncate = command->add_option("--truncate", options->truncate,
                                       "Table to empty in the moment in which the replay begins; "
                                       "may be given more than once");
  request.push_back(truncate);
  request.push_back(command
                        ->add_flag("--dry-run", options->dry_run,
                                   "Run the handlers, check and count the effects, apply none")
                        ->excludes(truncate));
  request.push_back(command->add_option("--name", options->name,
                                        "What to call it; the same command again goes on with it"));
  auto* resume = command->add_option("--resume", options->resume,
                                     "Go on with the replay of this name, behind its last commit");
  for (CLI::Option* option : request) resume->excludes(option);
  command
      ->add_option("--on-error", options->on_error,
                   "At an event that fails: stop there, or skip it and list it")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "Events in one transaction, at most")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command
      ->add_option("--rate", options->rate,
                   "Events per second, at most; default: as fast as it goes")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--connect-timeout", options->connect_timeout,
                   "How long to wait for a database that goes away")
      ->capture_default_str();
  auto* list = command->add_flag("--list", options->list, "List the replays and where they stand");
  command->add_flag("--json", options->json, "As JSON")->needs(list);
  command->callback([&action, options] { action = [options] { return replay(*options); }; });
}

}  // namespace spillway::cli
