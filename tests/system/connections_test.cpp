// How a worker can be reached: TLS, Unix sockets, several at once; and what is wrong with options
// that say so.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/system/support.hpp"
#include "tests/system/tls_support.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

fs::path fresh_folder() {
  static int numbers = 0;
  const fs::path folder = scratch_folder() / ("connections" + std::to_string(++numbers));
  fs::create_directories(folder);
  return folder;
}

std::vector<std::string> tls_options(const CertificateFiles& files,
                                     std::vector<std::string> more = {}) {
  more.insert(more.end(), {"--tls-cert", files.certificate, "--tls-key", files.key});
  return more;
}

// By the certificate alone, so that it tells which one is in force.
Finished get_by_tls(int port, const std::string& path, const std::string& trusted) {
  return run(
      {"curl", "-sS", "--cacert", trusted, "https://127.0.0.1:" + std::to_string(port) + path});
}

TEST(Connections, tls_serves_streams_and_takes_a_new_certificate_at_sighup) {
  for (const char* roles : {"worker,sse", "sse"}) {
    Database database;
    const fs::path folder = fresh_folder();
    const auto files = make_certificate(folder, "localhost");
    Worker worker(database.url(), tls_options(files, {"--roles", roles}));
    worker.wait_until_ready();
    EXPECT_TRUE(eventually(
        [&] { return contains(worker.process().errors(), "listening on https://127.0.0.1:"); }));
    const std::string first = (folder / "first.pem").string();
    fs::copy_file(files.certificate, first);
    Process client({"curl", "-sSN", "--cacert", first,
                    "https://127.0.0.1:" + std::to_string(worker.port()) + "/sse?channel=A:1"});
    ASSERT_TRUE(eventually([&] { return contains(client.output(), "connected"); }))
        << client.errors();

    // A key that does not belong to it: the old one stays.
    const auto other = make_certificate(folder / "other", "localhost");
    const std::string good_key = (folder / "good.key").string();
    fs::copy_file(files.key, good_key);
    fs::copy_file(other.key, files.key, fs::copy_options::overwrite_existing);
    worker.process().signal(SIGHUP);
    ASSERT_TRUE(eventually([&] {
      return contains(worker.process().errors(), "SIGHUP: the certificates stay as they were: ");
    })) << worker.process().errors();
    EXPECT_TRUE(contains(worker.process().errors(), "is not the key of"));
    EXPECT_EQ(get_by_tls(worker.port(), "/healthz", first).exit_code, 0);

    make_certificate(folder, "localhost");
    worker.process().signal(SIGHUP);
    ASSERT_TRUE(eventually(
        [&] { return contains(worker.process().errors(), "SIGHUP: certificates reloaded"); }));
    ASSERT_TRUE(eventually(
        [&] { return get_by_tls(worker.port(), "/healthz", files.certificate).exit_code == 0; }));
    EXPECT_NE(get_by_tls(worker.port(), "/healthz", first).exit_code, 0);
    EXPECT_TRUE(client.running()) << "an open stream goes on with the old one";
    EXPECT_EQ(worker.stop(), 0);
    EXPECT_EQ(client.wait(), 0) << client.errors();
  }
}

TEST(Connections, certificates_that_will_not_do_exit_2_and_say_why) {
  Database database;
  const fs::path folder = fresh_folder();
  const auto files = make_certificate(folder, "localhost");
  const auto other = make_certificate(folder / "other", "localhost");
  const std::string locked = (folder / "locked.key").string();
  ASSERT_EQ(run({"openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:secret", "-out",
                 locked})
                .exit_code,
            0);
  struct Wrong {
    std::vector<std::string> options;
    std::string words;
  };
  const std::vector<Wrong> all = {
      {{"--tls-cert", files.certificate}, "--tls-cert without --tls-key: write both"},
      {{"--tls-key", files.key}, "--tls-key without --tls-cert: write both"},
      {{"--tls-cert", "/no/such.pem", "--tls-key", files.key}, "/no/such.pem cannot be read"},
      {{"--tls-cert", files.certificate, "--tls-key", other.key}, "is not the key of"},
      {{"--tls-cert", files.certificate, "--tls-key", locked},
       "is encrypted with a passphrase; write it without: openssl pkey -in"},
  };
  for (const Wrong& wrong : all) {
    std::vector<std::string> command{spillway_binary(), "run",      "--database-url",
                                     database.url(),    "--listen", "127.0.0.1:0"};
    command.insert(command.end(), wrong.options.begin(), wrong.options.end());
    const auto result = run(command);
    EXPECT_EQ(result.exit_code, 2) << wrong.words;
    EXPECT_TRUE(contains(result.errors, wrong.words)) << result.errors;
  }
}

TEST(Connections, a_certificate_that_ends_soon_is_said_in_the_log) {
  Database database;
  Worker worker(database.url(), tls_options(make_certificate(fresh_folder(), "localhost", 5)));
  worker.wait_until_ready();
  EXPECT_TRUE(eventually([&] {
    return contains(worker.process().errors(), "the certificate expires on ");
  })) << worker.process().errors();
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Connections, a_unix_socket_is_served_kept_off_and_taken_over) {
  Database database;
  const std::string path = (fresh_folder() / "s.sock").string();
  const std::vector<std::string> options{"--listen",    "unix:" + path,  "--listen",
                                         "127.0.0.1:0", "--listen-mode", "0600"};
  const auto get = [&](const std::string& target) {
    return run({"curl", "-sS", "--unix-socket", path, "http://localhost" + target});
  };
  {
    Worker worker(database.url(), options);
    worker.wait_until_ready();
    EXPECT_TRUE(eventually(
        [&] { return contains(worker.process().errors(), "listening on unix:" + path); }));
    EXPECT_EQ(get("/healthz").exit_code, 0);
    EXPECT_EQ(http(worker.port(), "GET", "/healthz").status, 200);
    struct stat there {};
    ASSERT_EQ(stat(path.c_str(), &there), 0);
    EXPECT_EQ(there.st_mode & 0777u, 0600u);

    const auto second = run(
        {spillway_binary(), "run", "--database-url", database.url(), "--listen", "unix:" + path});
    EXPECT_EQ(second.exit_code, 2);
    EXPECT_TRUE(contains(second.errors, "another process listens on unix:" + path))
        << second.errors;
    EXPECT_EQ(get("/healthz").exit_code, 0);
    worker.kill();
  }
  EXPECT_TRUE(fs::exists(path)) << "nobody was there to remove it";
  Worker next(database.url(), options);
  next.wait_until_ready();
  EXPECT_EQ(get("/healthz").exit_code, 0);
  EXPECT_EQ(next.stop(), 0);
  EXPECT_FALSE(fs::exists(path));

  std::ofstream(path) << "mine\n";
  const auto third =
      run({spillway_binary(), "run", "--database-url", database.url(), "--listen", "unix:" + path});
  EXPECT_EQ(third.exit_code, 2);
  EXPECT_TRUE(contains(third.errors, "is not a socket; remove it")) << third.errors;
}

TEST(Connections, a_supervised_worker_keeps_each_of_its_ports) {
  Database database;
  const std::string path = (fresh_folder() / "s.sock").string();
  Worker worker(database.url(), {"--supervise", "--listen", "127.0.0.1:0", "--listen",
                                 "unix:" + path, "--listen", "127.0.0.1:0"});
  worker.wait_until_ready();
  const auto lines = [&] {
    std::vector<std::string> found;
    const std::string log = worker.process().errors();
    for (auto at = log.find("listening on "); at != std::string::npos;
         at = log.find("listening on ", at + 1))
      found.push_back(log.substr(at, log.find('\n', at) - at));
    return found;
  };
  ASSERT_TRUE(eventually([&] { return lines().size() == 3; }));
  const int pid = static_cast<int>(database.number("SELECT pid FROM spillway.workers"));
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return lines().size() == 6; })) << worker.process().errors();
  const auto all = lines();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(all[i], all[i + 3]);
  EXPECT_NE(all[0], all[2]);
  EXPECT_EQ(run({"curl", "-sS", "--unix-socket", path, "http://localhost/healthz"}).exit_code, 0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST(Connections, each_address_has_to_be_loopback_without_insecure) {
  Database database;
  const auto result = run({spillway_binary(), "run", "--database-url", database.url(), "--listen",
                           "127.0.0.1:0", "--listen", "0.0.0.0:0"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.errors, "0.0.0.0") && contains(result.errors, "--insecure"))
      << result.errors;
}

TEST(Connections, limits_of_a_request_are_options) {
  Database database;
  Worker worker(database.url(), {"--max-header-bytes", "1024", "--max-body-bytes", "2048"});
  worker.wait_until_ready();
  EXPECT_EQ(http(worker.port(), "GET", "/healthz?" + std::string(2000, 'x')).status, 431);
  const auto large = http(worker.port(), "POST", "/events", std::string(3000, ' '));
  EXPECT_EQ(large.status, 413);
  EXPECT_TRUE(contains(large.body, "2048"));
}

}  // namespace
}  // namespace spillway::test
