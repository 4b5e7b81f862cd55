// Somebody who inserts events in every way that there is, and keeps a log of its own of what came
// of each. Own thread, own streams.
//
// Its streams "own:N:…" have no other writer and one transaction at a time, so their events must be
// handled in the order of their ids. Into "shared:…" all write, with append(). When COMMIT was not
// answered the writer waits until the session is gone from the server, and looks for its marks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "processor/pg_connection.hpp"

namespace spillway::torture {

enum class Fate {
  committed,
  rolled_back,
  unknown,  // either; only the log of events can tell
};

// What writers share.
struct WriterShared {
  PgTarget target;                // may lead through a proxy
  PgTarget direct;                // to look what came of something
  std::string folder;             // for COPY; the server can read it
  bool has_broadcast = false;     // spillway.broadcast() exists
  std::function<int()> any_port;  // of a living worker; 0: none
  std::atomic<std::uint64_t> written{0};
  std::atomic<int> keys{0};  // idempotency keys in use
};

class Writer {
 public:
  Writer(WriterShared& shared, int number, std::uint64_t seed);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Finishes what it has prepared; blocks.
  void stop();

  // After stop().
  [[nodiscard]] const std::map<std::string, Fate>& log() const { return log_; }
  [[nodiscard]] const std::map<std::string, Fate>& broadcasts() const { return broadcasts_; }
  [[nodiscard]] const std::vector<std::string>& keys() const { return keys_; }
  [[nodiscard]] const std::map<std::string, int>& kinds() const { return kinds_; }
  [[nodiscard]] const std::vector<std::string>& troubles() const { return troubles_; }
  [[nodiscard]] int in_doubt() const { return in_doubt_; }

 private:
  struct Prepared {
    std::string name;
    std::vector<std::string> marks;
    bool commit = true;
    std::chrono::steady_clock::time_point due;
  };

  void run();
  void some_transaction();
  void with_savepoints();
  void long_transaction();
  void copy();
  void append();
  void keyed();
  void post();
  void prepare();
  void broadcast();
  void finish_prepared();

  std::string row(const std::string& stream, bool plain = false);  // for VALUES; notes its mark
  void insert(int rows);
  void commit();
  void rollback();
  void forget_from(std::size_t first);
  void settle(Fate fate);
  void resolve();

  PgConnection& connection();
  std::string next_mark();
  std::string own_stream();
  int at_most(int most) { return std::uniform_int_distribution<int>(0, most)(random_); }
  bool one_in(int many) { return at_most(many - 1) == 0; }

  WriterShared& shared_;
  const int number_;
  std::mt19937_64 random_;
  std::unique_ptr<PgConnection> connection_;
  std::string session_;  // application_name of the connection
  int sessions_ = 0;
  int marks_ = 0;
  std::vector<std::string> pending_;  // marks of the open transaction
  bool in_transaction_ = false;
  bool committing_ = false;  // a commit was sent, and not answered
  std::optional<Prepared> prepared_;
  std::map<std::string, Fate> log_;
  std::map<std::string, Fate> broadcasts_;
  std::vector<std::string> keys_;
  std::map<std::string, int> kinds_;
  std::vector<std::string> troubles_;
  int in_doubt_ = 0;
  std::atomic<bool> stopping_{false};
  std::jthread thread_;
};

}  // namespace spillway::torture
