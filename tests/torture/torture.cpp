// A randomized crash test: workers, sessions, the server and connections are killed, stopped and
// cut while writers do all that transactions can do and subscribers come and go; then a checker
// proves that nothing was lost, doubled or reordered. See CONTRIBUTING.md.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/insist.hpp"
#include "tests/support/seed.hpp"
#include "tests/torture/checker.hpp"
#include "tests/torture/guardian.hpp"
#include "tests/torture/place.hpp"
#include "tests/torture/proxy.hpp"
#include "tests/torture/writer.hpp"

namespace spillway::torture {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using test::eventually;
using test::insist;

struct Options {
  std::optional<std::uint64_t> seed;
  double seconds = 60;
  std::uint64_t events = 0;  // written, 0: as many as there is time for
  int workers = 3;
  int writers = 5;
};

class Torture {
 public:
  Torture(const Options& options, std::uint64_t seed)
      : options_(options),
        random_(seed),
        database_proxy_([] { return connect_to_path(server_socket()); }, seed + 1),
        stream_proxy_([this] { return connect_to_port(any_port()); }, seed + 2) {}

  Findings run();
  void print(const Findings& findings) const;

 private:
  int at_most(int most) { return std::uniform_int_distribution<int>(0, most)(random_); }
  bool one_in(int many) { return at_most(many - 1) == 0; }
  milliseconds up_to(int most) { return milliseconds(at_most(most)); }

  static std::string server_socket();
  int any_port();
  void set_up();
  void subscribe(std::size_t number);
  void attend(milliseconds time);
  void some_fault();
  void fault_of_the_database();
  void fault_of(Proxy& proxy, const std::string& name);
  void write_jq(int version);
  void come_to_rest(Findings& findings);
  void phase_ends(const std::string& name);
  Place& some_place() { return *places_[static_cast<std::size_t>(at_most(options_.workers - 1))]; }

  const Options options_;
  std::mt19937_64 random_;
  test::Database database_;
  std::vector<std::unique_ptr<Place>> places_;
  std::atomic<std::size_t> turn_{0};
  Proxy database_proxy_;
  Proxy stream_proxy_;
  WriterShared shared_;
  std::vector<std::unique_ptr<Writer>> writers_;
  std::vector<Audience> audiences_;
  std::size_t connections_ = 0;  // of all of them, once they are gone
  fs::path jq_folder_ = test::scratch_folder() / "jq";
  int jq_version_ = 0;
  std::map<std::string, int> faults_;
  clock::time_point last_phase_ = clock::now();
  std::vector<std::string> phases_;  // with the seconds each took
};

std::string Torture::server_socket() {
  // "…?host=FOLDER&port=5432&user=postgres", percent-encoded.
  const std::string url = test::server().url();
  const std::size_t begin = url.find("host=") + 5;
  std::string path;
  for (std::size_t i = begin; i < url.find('&', begin); ++i) {
    if (url[i] != '%') {
      path += url[i];
      continue;
    }
    path += static_cast<char>(std::stoi(url.substr(i + 1, 2), nullptr, 16));
    i += 2;
  }
  return path + "/.s.PGSQL.5432";
}

// Of a worker that lives and runs; the turn changes, so that streams move between the processes.
int Torture::any_port() {
  const std::size_t first = turn_++;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (const int port = places_[(first + i) % places_.size()]->port(); port != 0) return port;
  return 0;
}

void Torture::write_jq(int version) {
  fs::create_directories(jq_folder_);
  std::ifstream source(TORTURE_JQ_HANDLERS "/Jotted.jq");
  std::stringstream text;
  text << source.rdbuf() << "# version " << version << '\n';
  const fs::path fresh = jq_folder_ / ".Jotted.new";
  std::ofstream(fresh) << text.str();
  fs::rename(fresh, jq_folder_ / "Jotted.jq");
}

void Torture::set_up() {
  database_.query(
      "CREATE TABLE handled (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mark text NOT NULL,"
      "  event_id bigint NOT NULL, stream text, attempt int NOT NULL,"
      "  at timestamptz NOT NULL DEFAULT clock_timestamp());"
      "CREATE INDEX ON handled (event_id);"
      "CREATE INDEX ON spillway.events ((payload ->> 'm'))");
  write_jq(jq_version_);

  const std::string name = database_.value("SELECT current_database()");
  const std::string proxied =
      "postgresql://postgres@127.0.0.1:" + std::to_string(database_proxy_.port()) + "/" + name +
      "?sslmode=disable&gssencmode=disable";
  for (int i = 0; i < options_.workers; ++i) {
    places_.push_back(
        std::make_unique<Place>("place" + std::to_string(i), proxied,
                                std::vector<std::string>{"--handlers",
                                                         TORTURE_HANDLERS,
                                                         "--handlers",
                                                         jq_folder_.string(),
                                                         "--batch",
                                                         std::to_string(40 + at_most(200)),
                                                         "--runners",
                                                         "2",
                                                         "--connect-timeout",
                                                         "60s",
                                                         "--sse-retry",
                                                         "10ms",
                                                         "--max-attempts",
                                                         "20",
                                                         "--retry-delay",
                                                         "20ms",
                                                         "--log-megabytes",
                                                         "1",
                                                         "--shutdown-timeout",
                                                         "30s"}));
    places_.back()->start();
  }
  if (!eventually(
          [&] {
            for (auto& place : places_) place->look_after();
            return std::all_of(places_.begin(), places_.end(),
                               [](const auto& place) { return place->port() != 0; });
          },
          60s))
    throw std::runtime_error("the workers did not come up");
  // Those that see all of it, and one that reads it from the beginning.
  for (std::size_t i = 0; i < 5; ++i) subscribe(i);
  if (!eventually([&] {
        return std::all_of(audiences_.begin(), audiences_.end(),
                           [](const Audience& one) { return one.subscriber->connected(); });
      }))
    throw std::runtime_error("the subscribers did not connect");

  shared_.direct = {database_.url(), "torture"};
  shared_.folder = test::scratch_folder().string();
  shared_.has_broadcast =
      database_.value("SELECT to_regproc('spillway.broadcast') IS NOT NULL") == "t";
  shared_.any_port = [this] { return any_port(); };
  shared_.target = {proxied, "writer"};
  for (int i = 0; i < options_.writers; ++i)
    writers_.push_back(std::make_unique<Writer>(shared_, i, random_()));
}

// The first five are of different kinds; later ones come while everything is under way.
void Torture::subscribe(std::size_t number) {
  Audience one;
  test::SubscriberHabits habits;
  habits.seed = random_();
  std::string target = "/sse?channel=Feed:*&channel=User:1";
  one.condition = "channel LIKE 'Feed:%' OR channel = 'User:1'";
  bool through_proxy = true;
  switch (number % 5) {
    case 0:
      one.name = "a direct one";
      through_proxy = false;
      break;
    case 1:
      one.name = "one through the proxy";
      break;
    case 2: {
      one.name = "a slow one of some channels";
      habits.pause = std::chrono::microseconds(300);
      target = "/sse?channel=Feed:2&channel=Feed:5&channel=User:3&channel=User:4";
      one.condition = "channel IN ('Feed:2', 'Feed:5', 'User:3', 'User:4')";
      break;
    }
    case 3:
      one.name = "one that goes and comes back";
      habits.leaves_after = 60;
      habits.away = 400ms;
      target = "/sse?channel=User:*";
      one.condition = "channel LIKE 'User:%'";
      break;
    default:
      one.name = "one from the earliest";
      one.earliest = true;
      habits.first_id = "earliest";
      habits.leaves_after = 500;
      target = "/sse/Feed/3";
      one.condition = "channel = 'Feed:3'";
      break;
  }
  one.name += " (" + std::to_string(number) + ")";
  one.subscriber = std::make_unique<test::Subscriber>(
      target,
      through_proxy ? std::function<int()>([this] { return stream_proxy_.port(); })
                    : std::function<int()>([this] { return any_port(); }),
      habits);
  audiences_.push_back(std::move(one));
}

// Waits, and looks after the workers meanwhile.
void Torture::attend(milliseconds time) {
  const auto end = clock::now() + time;
  do {
    for (auto& place : places_) place->look_after();
    std::this_thread::sleep_for(std::min(milliseconds(10), time));
  } while (clock::now() < end);
}

void Torture::fault_of(Proxy& proxy, const std::string& name) {
  using Kind = Proxy::Fault::Kind;
  Proxy::Fault fault;
  fault.likelihood = one_in(3) ? 1.0 : 0.3;
  switch (at_most(3)) {
    case 0:
      fault.kind = Kind::reset;
      ++faults_[name + " connections reset"];
      break;
    case 1:
      fault.kind = Kind::silence;
      fault.time = up_to(900);
      ++faults_[name + " connections silent, then reset"];
      break;
    case 2:
      fault.kind = Kind::delay;
      fault.time = up_to(500);
      ++faults_[name + " connections delayed"];
      break;
    default:
      fault.kind = Kind::tear;
      ++faults_[name + " connections cut in the middle of a message"];
      break;
  }
  proxy.inflict(fault);
}

void Torture::fault_of_the_database() {
  const int kind = at_most(9);
  if (kind < 2) {
    ++faults_["PostgreSQL stopped hard"];
    test::server().restart("immediate");
  } else if (kind < 3) {
    ++faults_["PostgreSQL stopped hard, away for a while"];
    test::server().stop("immediate");
    attend(up_to(1500));
    test::server().start(test::server_settings());
  } else {
    // Of a worker or of a writer; with SIGKILL the server ends all sessions, and recovers.
    const bool hard = kind == 3;
    ++faults_[hard ? "backend killed (the server recovers)" : "backend terminated"];
    const Rows pids = insist([&] {
      return database_.query(
          hard ? "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'place%'"
                 " ORDER BY pid OFFSET " +
                     std::to_string(at_most(3)) + " LIMIT 1"
               : "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE application_name LIKE 'place%' OR application_name LIKE 'writer%'"
                 " ORDER BY md5(pid::text || '" +
                     std::to_string(at_most(1000)) + "') LIMIT " + std::to_string(1 + at_most(2)));
    });
    if (hard && !pids.empty()) ::kill(static_cast<pid_t>(pids.integer(0, 0)), SIGKILL);
  }
}

void Torture::some_fault() {
  const int kind = at_most(99);
  Place& place = some_place();
  if (kind < 18) {
    ++faults_["worker killed"];
    place.kill();
    if (one_in(4)) attend(up_to(600));
    place.start();
    if (one_in(5)) {
      ++faults_["worker killed while it starts"];
      attend(up_to(80));
      place.kill();
      place.start();
    }
  } else if (kind < 22) {
    ++faults_["all workers killed"];
    for (auto& one : places_) one->kill();
    if (one_in(2)) attend(milliseconds(0));
    for (auto& one : places_) one->start();
  } else if (kind < 32) {
    ++faults_["worker stopped for a while"];
    place.stop();
    attend(up_to(1500));
    if (one_in(3)) {
      ++faults_["worker killed"];
      place.kill();
      place.start();
    } else {
      place.go_on();
    }
  } else if (kind < 42) {
    ++faults_["worker terminated (SIGTERM)"];
    place.terminate();
    place.start();
  } else if (kind < 50) {
    ++faults_["handlers reloaded (SIGHUP)"];
    write_jq(++jq_version_);
    for (auto& one : places_) one->reload();
  } else if (kind < 66) {
    fault_of_the_database();
  } else if (kind < 86) {
    fault_of(database_proxy_, "database");
  } else {
    fault_of(stream_proxy_, "stream");
  }
}

void Torture::phase_ends(const std::string& name) {
  const auto now = clock::now();
  std::ostringstream text;
  text << name << ' ' << std::chrono::duration_cast<std::chrono::seconds>(now - last_phase_).count()
       << " s";
  phases_.push_back(text.str());
  last_phase_ = now;
}

void Torture::come_to_rest(Findings& findings) {
  for (auto& place : places_) place->go_on();
  // Several at once may be in the middle of a long transaction.
  for (auto& writer : writers_) writer->stop();
  phase_ends("writers ending");
  const auto look = [&](const std::function<bool()>& condition) {
    return eventually(
        [&] {
          for (auto& place : places_) place->look_after();
          return insist(condition);
        },
        120s);
  };
  if (!look([&] { return test::drained(database_); }))
    findings.faults.push_back(
        "the queue is not empty after two minutes: " +
        database_.value("SELECT json_agg(s)::text FROM (SELECT s.*, e.stream, e.payload FROM "
                        "spillway.event_status s JOIN spillway.events e ON e.id = s.event_id WHERE "
                        "status NOT IN ('done', 'dead') LIMIT 5) s"));
  for (Audience& audience : audiences_) {
    const auto frames = wanted(database_, audience);
    // In order, so the last one says it all; the checker compares each of them.
    if (!frames.empty() &&
        !look([&] { return audience.subscriber->position() >= frames.back().position; }))
      findings.faults.push_back(audience.name + " still waits for frames after two minutes");
  }
}

Findings Torture::run() {
  set_up();
  const auto end = clock::now() + std::chrono::duration_cast<clock::duration>(
                                      std::chrono::duration<double>(options_.seconds));
  const auto enough = [&] {
    return clock::now() > end || (options_.events > 0 && shared_.written >= options_.events);
  };
  phase_ends("setting up");
  attend(200ms);
  while (!enough()) {
    some_fault();
    // Faults come in flurries; without a rest in between little would ever get done.
    attend(one_in(3) ? up_to(40) : up_to(900));
    if (one_in(12) && audiences_.size() < 40) subscribe(audiences_.size());
  }
  phase_ends("faults");
  Findings rest;
  come_to_rest(rest);
  phase_ends("coming to rest");
  database_.query("ANALYZE");
  Findings findings = check(database_, writers_, audiences_);
  for (const Audience& audience : audiences_) connections_ += audience.subscriber->connections();
  for (Audience& audience : audiences_) audience.subscriber.reset();
  for (auto& place : places_) {
    place->terminate();
    for (const std::string& trouble : place->troubles()) rest.faults.push_back(trouble);
  }
  if (findings.faults.empty()) findings.faults = unnoticed(database_);
  findings.faults.insert(findings.faults.begin(), rest.faults.begin(), rest.faults.end());
  phase_ends("checking");
  return findings;
}

void Torture::print(const Findings& findings) const {
  int all = 0;
  for (const auto& [name, count] : faults_) all += count;
  std::cout << "faults      " << all << ", which hit " << database_proxy_.hit() << " database and "
            << stream_proxy_.hit() << " stream connections\n";
  for (const auto& [name, count] : faults_) std::cout << "  " << name << ": " << count << '\n';
  std::map<std::string, int> kinds;
  int in_doubt = 0;
  for (const auto& writer : writers_) {
    for (const auto& [kind, count] : writer->kinds()) kinds[kind] += count;
    in_doubt += writer->in_doubt();
  }
  std::cout << "transactions";
  for (const auto& [kind, count] : kinds) std::cout << "  " << kind << ": " << count;
  std::cout << "\n              commits in doubt: " << in_doubt << '\n';
  int starts = 0, in_vain = 0;
  for (const auto& place : places_) starts += place->starts(), in_vain += place->starts_in_vain();
  std::cout << "workers     " << starts << " started, " << in_vain << " of them in vain\n"
            << "events      " << findings.events << " (" << findings.rows << " rows, "
            << findings.retries << " further attempts, " << findings.dead << " dead by design)\n"
            << "broadcasts  " << findings.positions << " positions; " << audiences_.size()
            << " subscribers saw " << findings.frames << " frames and " << findings.ephemeral
            << " ephemeral ones over " << connections_ << " connections\n"
            << "time       ";
  for (const std::string& phase : phases_)
    std::cout << ' ' << phase << (&phase == &phases_.back() ? "\n" : ",");
}

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Kills, stops and cuts everything at random, and proves that nothing was lost.");
  app.add_option("--seed", options.seed, "Repeats the choices of a run (not its timing)");
  app.add_option("--seconds", options.seconds, "How long faults go on")->capture_default_str();
  app.add_option("--events", options.events, "Ends after so many events, if that is sooner");
  app.add_option("--workers", options.workers, "`spillway run` processes")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  app.add_option("--writers", options.writers, "Sessions that insert")
      ->check(CLI::Range(1, 50))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::uint64_t seed = 0;
  if (options.seed) {
    seed = *options.seed;
    std::cout << "[   seed   ] --seed " << seed << std::endl;
  } else {
    seed = test::printed_seed();
  }
  const Guardian guardian(test::scratch_folder());

  Torture torture(options, seed);
  const Findings findings = torture.run();
  torture.print(findings);
  for (const std::string& fault : findings.faults) std::cout << "FAULT: " << fault << '\n';
  std::cout << (findings.faults.empty() ? "nothing lost, doubled or reordered"
                                        : "FAILED; again with --seed " + std::to_string(seed))
            << std::endl;
  return findings.faults.empty() ? 0 : 1;
}

}  // namespace
}  // namespace spillway::torture

int main(int argc, char** argv) {
  try {
    return spillway::torture::main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "torture: " << error.what() << '\n';
    return 1;
  }
}
