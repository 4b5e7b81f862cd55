// How a worker starts, and why not; how it stops; and the private PostgreSQL of `spillway dev`.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "processor/private_postgres.hpp"
#include "spillway/version.hpp"
#include "tests/system/support.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A row that the database makes wait, so that a batch is in hand for as long as a test wants.
class BlockedBatch {
 public:
  BlockedBatch(Database& database, std::vector<std::string> options)
      : database_(database), locker_(database.target()) {
    database.query("CREATE TABLE good (n int)");
    options.insert(options.end(), {"--handlers", test_handlers(), "--runners", "1"});
    worker.emplace(database.url(), options);
    worker->wait_until_ready();
    client.emplace(worker->port(), "/sse/T/good");
    if (!client->next()) throw std::runtime_error("the stream does not begin");
    locker_.exec("BEGIN; LOCK TABLE good IN SHARE MODE");
    insert(1);
    if (!eventually([&] {
          return database.number(
                     "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation ="
                     " 'good'::regclass") == 1;
        }))
      throw std::runtime_error("no batch came: " + worker->process().errors());
  }
  void insert(int n) {
    const json steps = {{{"insert", {{"table", "good"}, {"data", {{"n", n}}}}}},
                        {{"tell", {{"channel", "T:good"}, {"event_type", "told"}, {"data", n}}}}};
    database_.query("INSERT INTO spillway.events (type, payload) VALUES ('Good', " +
                    sql_quoted(json{{"do", steps}}.dump()) + ")");
  }
  // Sends the signal and waits until it was understood.
  void signal(int number) {
    worker->process().signal(number);
    if (!eventually(
            [&] { return contains(worker->process().errors(), "finishing what is in hand"); }))
      throw std::runtime_error("the signal was not heard: " + worker->process().errors());
  }
  void let_go() { locker_.exec("COMMIT"); }
  std::string statuses() {
    return database_.value(
        "SELECT string_agg(status, ' ' ORDER BY event_id) FROM spillway.event_status");
  }

  std::optional<Worker> worker;
  std::optional<SseClient> client;

 private:
  Database& database_;
  PgConnection locker_;
};

void finishes_the_batch_in_hand_and_exits_0(int signal) {
  Database database;
  BlockedBatch blocked(database, {});
  blocked.signal(signal);
  blocked.insert(2);  // too late for this worker
  EXPECT_TRUE(blocked.worker->process().running());
  EXPECT_EQ(blocked.statuses(), "pending pending");
  blocked.let_go();
  EXPECT_EQ(blocked.worker->process().wait(), 0) << blocked.worker->process().errors();
  EXPECT_EQ(blocked.statuses(), "done pending");
  EXPECT_EQ(database.value("SELECT string_agg(n::text, ' ') FROM good"), "1");
  // The stream had what was committed, and then ended.
  const auto frame = blocked.client->next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->event, "told");
  EXPECT_EQ(frame->data, "1");
  EXPECT_FALSE(blocked.client->next());
  EXPECT_TRUE(blocked.client->ended());
}

TEST(Lifecycle, sigterm_finishes_the_batch_in_hand_and_exits_0) {
  finishes_the_batch_in_hand_and_exits_0(SIGTERM);
}

TEST(Lifecycle, sigint_finishes_the_batch_in_hand_and_exits_0) {
  finishes_the_batch_in_hand_and_exits_0(SIGINT);
}

TEST(Lifecycle, a_second_signal_ends_it_at_once_and_loses_nothing) {
  Database database;
  BlockedBatch blocked(database, {"--shutdown-timeout", "10m"});
  blocked.signal(SIGTERM);
  blocked.worker->process().signal(SIGTERM);
  EXPECT_EQ(blocked.worker->process().wait(), 130);
  EXPECT_EQ(blocked.statuses(), "pending");
  blocked.let_go();
  Worker next(database.url(), {"--handlers", test_handlers()});
  next.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return drained(database); }));
  EXPECT_EQ(database.value("SELECT string_agg(n::text, ' ') FROM good"), "1");
}

TEST(Lifecycle, a_drain_delay_keeps_serving_but_is_not_ready) {
  Database database;
  Worker worker(database.url(), {"--handlers", test_handlers(), "--drain-delay", "10m",
                                 "--shutdown-timeout", "1h"});
  worker.wait_until_ready();
  EXPECT_EQ(http(worker.port(), "GET", "/readyz").status, 200);
  SseClient stream(worker.port(), "/sse/T/good");
  ASSERT_TRUE(stream.next());
  worker.process().signal(SIGTERM);
  ASSERT_TRUE(eventually([&] { return http(worker.port(), "GET", "/readyz").status == 503; }));
  EXPECT_TRUE(contains(http(worker.port(), "GET", "/readyz").body, "about to end"));
  EXPECT_EQ(http(worker.port(), "GET", "/healthz").status, 200);
  SseClient late(worker.port(), "/sse/T/good");
  ASSERT_TRUE(late.next());
  const json step = {{"tell", {{"channel", "T:good"}, {"event_type", "told"}, {"data", 1}}}};
  const auto answer = http(worker.port(), "POST", "/events?wait=10",
                           json{{"type", "Good"}, {"payload", {{"do", {step}}}}}.dump());
  EXPECT_EQ(answer.status, 200) << answer.body;
  for (SseClient* client : {&stream, &late}) {
    const auto frame = client->next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->event, "told");
  }
  worker.process().signal(SIGTERM);
  EXPECT_EQ(worker.process().wait(), 130) << "a second signal ends it at once";
}

TEST(Lifecycle, after_its_drain_delay_a_worker_ends_in_order) {
  Database database;
  Worker worker(database.url(), {"--drain-delay", "50ms"});
  worker.wait_until_ready();
  EXPECT_EQ(worker.stop(), 0) << worker.process().errors();
  const std::string log = worker.process().errors();
  EXPECT_LT(log.find("not ready any more"), log.find("finishing what is in hand")) << log;
}

TEST(Lifecycle, streams_go_on_receiving_what_other_workers_commit_while_a_batch_is_finished) {
  Database database;
  BlockedBatch blocked(database, {});
  blocked.signal(SIGTERM);
  // The worker in question holds all lanes, so what another one commits is written by hand.
  database.query(
      "WITH head AS (UPDATE spillway.stream_head SET last = last + 1 RETURNING last)"
      " INSERT INTO spillway.broadcasts (position, channel, event_type, data)"
      " SELECT last, 'T:good', 'told', '7' FROM head");
  const auto frame = blocked.client->next();
  ASSERT_TRUE(frame) << blocked.worker->process().errors();
  EXPECT_EQ(frame->data, "7");
  EXPECT_THROW(SseClient(blocked.worker->port(), "/sse/T/good"), std::runtime_error)
      << "new connections are for others";
  blocked.let_go();
  EXPECT_EQ(blocked.worker->process().wait(), 0) << blocked.worker->process().errors();
}

TEST(Lifecycle, the_limit_of_open_files_is_raised_to_what_the_system_allows) {
  Database database;
  // The soft limit alone is low, then both are.
  const auto limits = [&](const std::string& set, const std::string& words) {
    const std::string port_file = (scratch_folder() / "limited.port").string();
    Process process({"/bin/sh", "-c",
                     "ulimit " + set + "; exec \"$0\" run --listen 127.0.0.1:0 --port-file \"$1\"",
                     spillway_binary(), port_file},
                    {{"DATABASE_URL", database.url()}});
    EXPECT_TRUE(eventually([&] { return contains(process.errors(), "listening on"); }))
        << process.errors();
    std::ifstream file("/proc/" + std::to_string(process.pid()) + "/limits");
    std::string line;
    while (std::getline(file, line) && !line.starts_with("Max open files")) {
    }
    EXPECT_TRUE(contains(line, words)) << line;
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait(), 0);
    return process.errors();
  };
  const std::string hard = std::to_string([] {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max;
  }());
  limits("-Sn 300", " " + hard + " ");
  const std::string log = limits("-n 400", " 400 ");
  EXPECT_TRUE(contains(log, "--max-connections 20000")) << log;
}

TEST(Lifecycle, a_shutdown_that_takes_too_long_is_a_failure_that_says_so) {
  Database database;
  BlockedBatch blocked(database, {"--shutdown-timeout", "300ms"});
  blocked.signal(SIGTERM);
  EXPECT_EQ(blocked.worker->process().wait(), 1);
  EXPECT_TRUE(contains(blocked.worker->process().errors(), "--shutdown-timeout"));
  EXPECT_EQ(blocked.statuses(), "pending");
  blocked.let_go();
}

TEST(Lifecycle, sighup_ends_nothing) {
  Database database;
  Worker worker(database.url());
  worker.wait_until_ready();
  worker.process().signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return contains(worker.process().errors(), "SIGHUP"); }));
  EXPECT_EQ(http(worker.port(), "GET", "/healthz").status, 200);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Lifecycle, a_worker_that_is_stopped_under_load_leaves_nothing_half_done) {
  Database database;
  load_example(database);
  database.query(
      "INSERT INTO spillway.events (type, payload) SELECT 'CommentAdded', jsonb_build_object("
      "'comment_id', n::text, 'item_id', '1', 'text', 'hi') FROM generate_series(1, 30000) n");
  int stops = 0;
  for (; !drained(database); ++stops) {
    const auto done = database.number("SELECT last FROM spillway.stream_head");
    Worker worker(database.url(), {"--handlers", comments_library(), "--batch", "200"});
    worker.wait_until_ready();
    ASSERT_TRUE(eventually(
        [&] { return database.number("SELECT last FROM spillway.stream_head") > done; }));
    ASSERT_EQ(worker.stop(), 0) << worker.process().errors();
    EXPECT_EQ(database.value("SELECT (SELECT count(*) FROM item_comments) = h.last AND"
                             " (SELECT count(*) FROM spillway.queue) = 30000 - h.last"
                             " FROM spillway.stream_head h"),
              "t");
  }
  EXPECT_EQ(database.number("SELECT count(*) FROM item_comments"), 30000);
  EXPECT_GE(stops, 2) << "it was never stopped while there was work";
}

struct Refused {
  std::vector<std::string> options;
  std::string words;  // in the message
};

TEST(Lifecycle, wrong_options_exit_2_and_say_what_to_write) {
  Database database;
  const std::vector<Refused> all = {
      {{"run", "--runners", "0"}, "--runners"},
      {{"run", "--no-such-option"}, "--no-such-option"},
      {{"run", "--roles", "cook"}, "--roles"},
      {{"run", "--listen", "8080"}, "write HOST:PORT"},
      {{"run", "--listen", "127.0.0.1:99999"}, "write HOST:PORT"},
      {{"run", "--listen", "0.0.0.0:0"}, "--insecure"},
      {{"run", "--listen", "[::]:0"}, "--insecure"},
      {{"run", "--listen", "192.0.2.1:0", "--insecure"}, "--listen"},
      {{"run", "--drain-delay", "10s"}, "less than --shutdown-timeout"},
      {{"run", "--retry-delay", "soon"}, "write a duration such as"},
      {{"run", "--config", (scratch_folder() / "none.toml").string()}, "none.toml"},
      {{"enqueue"}, "--file"},
      {{"enqueue", "A", "{nonsense"}, "not valid JSON"},
      {{"tail"}, "channels"},
      {{"tail", "A", "--from", "yesterday"}, "--from"},
      {{"cook"}, "cook"},
      {{}, "subcommand"},
  };
  for (const Refused& refused : all) {
    std::vector<std::string> command{spillway_binary()};
    command.insert(command.end(), refused.options.begin(), refused.options.end());
    const auto [code, output, errors] = run(command, {{"DATABASE_URL", database.url()}});
    std::string line;
    for (const auto& word : refused.options) line += word + " ";
    EXPECT_EQ(code, 2) << line << errors;
    EXPECT_TRUE(contains(errors + output, refused.words)) << line << errors << output;
  }
}

TEST(Lifecycle, a_port_that_is_taken_is_named) {
  Database database;
  Worker first(database.url());
  first.wait_until_ready();
  const std::string address = "127.0.0.1:" + std::to_string(first.port());
  const auto second =
      run({spillway_binary(), "run", "--database-url", database.url(), "--listen", address});
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_TRUE(contains(second.errors, "--listen")) << second.errors;
}

TEST(Lifecycle, insecure_opens_other_addresses) {
  Database database;
  Worker worker(database.url(), {"--listen", "0.0.0.0:0", "--insecure"});
  worker.wait_until_ready();
  EXPECT_EQ(http(worker.port(), "GET", "/healthz").status, 200);
}

TEST(Lifecycle, handlers_that_cannot_be_loaded_exit_2_and_say_why) {
  Database database;
  const auto text = scratch_folder() / "text.so";
  std::ofstream(text) << "not a library\n";
  const std::vector<Refused> all = {
      {{(scratch_folder() / "missing.so").string()}, "there is no such file"},
      {{scratch_folder().string()}, "has no handlers in it; write one as Type.jq"},
      {{text.string()}, "cannot be loaded"},
      {{test_no_handlers()}, "is not a handler library"},
      {{test_handlers_of_another_version()}, "layout 999"},
  };
  for (const Refused& refused : all) {
    const auto result = run({spillway_binary(), "run", "--database-url", database.url(), "--listen",
                             "127.0.0.1:0", "--handlers", refused.options.front()});
    EXPECT_EQ(result.exit_code, 2) << refused.options.front();
    EXPECT_TRUE(contains(result.errors, "--handlers " + refused.options.front())) << result.errors;
    EXPECT_TRUE(contains(result.errors, refused.words)) << result.errors;
  }
  const auto other = run({spillway_binary(), "run", "--database-url", database.url(), "--handlers",
                          test_handlers_of_another_version()});
  EXPECT_TRUE(contains(other.errors, "was built against [spillway ")) << other.errors;
  EXPECT_TRUE(contains(other.errors, "this worker is [" SPILLWAY_ABI "]")) << other.errors;
  EXPECT_TRUE(contains(other.errors, "rebuild it with this worker's headers")) << other.errors;
}

TEST(Lifecycle, a_database_that_cannot_be_reached_exits_3_without_telling_the_password) {
  const std::vector<std::string> targets = {
      "postgresql://ada:s3cretword@127.0.0.1:1/none",
      "host=127.0.0.1 port=1 user=ada password=s3cretword",
      "host=127.0.0.1 port=1 user=ada password='s3cretword x'",
      "postgresql://127.0.0.1:1/none?user=ada&password=s3cretword",
      "postgresql://ada:s3cretword@/none?host=/nowhere",
  };
  for (const auto& target : targets)
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"run", "--connect-timeout", "200ms", "--listen", "127.0.0.1:0"},
          {"migrate"},
          {"status"},
          {"enqueue", "A", "{}"},
          {"tail", "A"}}) {
      std::vector<std::string> words{spillway_binary()};
      words.insert(words.end(), command.begin(), command.end());
      const auto result = run(words, {{"DATABASE_URL", target}});
      EXPECT_EQ(result.exit_code, 3) << command.front() << " " << target << "\n" << result.errors;
      EXPECT_TRUE(contains(result.errors, "the database cannot be reached")) << result.errors;
      EXPECT_FALSE(contains(result.errors + result.output, "s3cret")) << result.errors;
    }
  // What is not understood as a target at all is a message of libpq that may quote it.
  const auto broken = run({spillway_binary(), "status", "--database-url",
                           "postgresql://ada:s3cretword@127.0.0.1:notaport/none"});
  EXPECT_NE(broken.exit_code, 0);
  EXPECT_FALSE(contains(broken.errors + broken.output, "s3cret")) << broken.errors;
}

TEST(Lifecycle, a_schema_that_is_not_the_binarys_exits_4) {
  Database empty(false);
  const std::vector<std::vector<std::string>> commands = {
      {"run", "--listen", "127.0.0.1:0"},
      {"status"},
      {"enqueue", "A", "{}"},
      {"tail", "A"},
      {"trace", "00000000-0000-0000-0000-000000000000"},
      {"try", "--event", "1", "--handlers", test_handlers()}};
  const auto start = [](const std::string& url, const std::vector<std::string>& command) {
    std::vector<std::string> words{spillway_binary()};
    words.insert(words.end(), command.begin(), command.end());
    return run(words, {{"DATABASE_URL", url}});
  };
  for (const auto& command : commands) {
    const auto result = start(empty.url(), command);
    EXPECT_EQ(result.exit_code, 4) << command.front() << result.errors;
    EXPECT_TRUE(contains(result.errors, "spillway migrate")) << result.errors;
  }
  Database newer;
  newer.query("INSERT INTO spillway.migrations (version, name) VALUES (9999, 'from the future')");
  auto more = commands;
  more.push_back({"migrate"});
  more.push_back({"migrate", "--status"});
  more.push_back({"run", "--migrate", "--listen", "127.0.0.1:0"});
  for (const auto& command : more) {
    const auto result = start(newer.url(), command);
    EXPECT_EQ(result.exit_code, 4) << command.front() << result.errors;
    EXPECT_TRUE(contains(result.errors, "9999")) << result.errors;
  }
}

TEST(Lifecycle, run_brings_the_schema_up_when_asked) {
  Database database(false);
  Worker worker(database.url(), {"--migrate"});
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] { return http(worker.port(), "GET", "/readyz").status == 200; }));
  database.query("INSERT INTO spillway.events (type) VALUES ('A')");
  EXPECT_TRUE(eventually([&] { return drained(database); }));
}

// --- dev ---

class Dev {
 public:
  explicit Dev(std::filesystem::path folder)
      : folder_(std::move(folder)),
        port_file_(folder_.string() + ".port"),
        process_(start(folder_, port_file_)) {}

  void wait_until_ready() {
    if (!eventually(
            [&] {
              if (!process_.running()) throw std::runtime_error("dev ended: " + process_.errors());
              return std::filesystem::exists(port_file_);
            },
            60s))
      throw std::runtime_error("dev is not ready: " + process_.errors());
    std::ifstream(port_file_) >> port;
    const std::string words = "DATABASE_URL=";
    eventually([&] { return contains(process_.output(), words); });
    url = process_.output();
    url.erase(0, url.find(words) + words.size());
    url.resize(url.find('\n'));
  }
  Process& process() { return process_; }

  int port = 0;
  std::string url;

 private:
  static std::vector<std::string> start(const std::filesystem::path& folder,
                                        const std::filesystem::path& port_file) {
    std::filesystem::remove(port_file);
    return {spillway_binary(), "dev",
            "--dir",           folder.string(),
            "--listen",        "127.0.0.1:0",
            "--port-file",     port_file.string(),
            "--handlers",      comments_library(),
            "--init",          example_schema()};
  }

  std::filesystem::path folder_;
  std::filesystem::path port_file_;
  Process process_;
};

TEST(Lifecycle, dev_keeps_a_private_postgres_adopts_it_after_a_kill_and_stops_it_in_order) {
  const auto folder = scratch_folder() / "dev";
  struct StopAtEnd {  // whatever fails below
    std::filesystem::path folder;
    ~StopAtEnd() {
      PrivatePostgres postgres(folder);
      if (postgres.running()) postgres.stop("immediate");
      std::error_code ignored;
      if (std::filesystem::is_symlink(folder / "pg"))
        std::filesystem::remove_all(std::filesystem::read_symlink(folder / "pg"), ignored);
    }
  } stop_at_end{folder};
  const std::string insert =
      "INSERT INTO spillway.events (type, payload) VALUES ('CommentAdded',"
      " '{\"item_id\":\"42\",\"text\":\"hi\"}')";
  std::string started;
  std::string last_id;
  {
    Dev dev(folder);
    dev.wait_until_ready();
    SseClient client(dev.port, "/sse/CommentStream/item:42");
    ASSERT_TRUE(client.next());
    PgConnection session({dev.url});
    session.exec(insert);
    const auto frame = client.next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->data, R"({"item_id":"42","text":"hi"})");
    last_id = frame->id;
    EXPECT_EQ(http(dev.port, "GET", "/").status, 200);
    started = session.exec("SELECT pg_postmaster_start_time()").string(0, 0);

    const auto twin =
        run({spillway_binary(), "dev", "--dir", folder.string(), "--listen", "127.0.0.1:0"});
    EXPECT_EQ(twin.exit_code, 2);
    EXPECT_TRUE(contains(twin.errors, "another `spillway dev` runs")) << twin.errors;

    dev.process().signal(SIGKILL);
    ASSERT_EQ(dev.process().wait(), 128 + SIGKILL);
    session.exec(insert);  // PostgreSQL lives on
  }
  Dev dev(folder);
  dev.wait_until_ready();
  {
    PgConnection session({dev.url});
    EXPECT_EQ(session.exec("SELECT pg_postmaster_start_time()").string(0, 0), started)
        << "it was started anew, not adopted";
    // What came while nobody worked was handled, and the stream goes on where it was cut.
    SseClient client(dev.port, "/sse/CommentStream/item:42", last_id);
    ASSERT_TRUE(client.next());
    const auto frame = client.next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->event, "CommentAdded");
    EXPECT_EQ(session.exec("SELECT count(*) FROM item_comments").integer(0, 0), 2);
  }
  dev.process().signal(SIGTERM);
  EXPECT_EQ(dev.process().wait(), 0) << dev.process().errors();
  EXPECT_FALSE(PrivatePostgres(folder).running());
  EXPECT_THROW(PgConnection({dev.url}), ConnectionLost);
}

}  // namespace
}  // namespace spillway::test
