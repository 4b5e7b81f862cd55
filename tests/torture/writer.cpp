#include "tests/torture/writer.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/support/database.hpp"
#include "tests/support/insist.hpp"
#include "tests/support/sse_client.hpp"

namespace spillway::torture {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using nlohmann::json;
using test::insist;
using test::sql_quoted;

constexpr const char* columns = "type, stream, payload, priority, execute_at, max_attempts";

}  // namespace

Writer::Writer(WriterShared& shared, int number, std::uint64_t seed)
    : shared_(shared), number_(number), random_(seed), thread_([this] { run(); }) {}

Writer::~Writer() {
  stop();
}

void Writer::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Writer::run() {
  try {
    while (!stopping_) {
      if (one_in(3)) std::this_thread::sleep_for(std::chrono::milliseconds(at_most(12)));
      try {
        if (prepared_ && clock::now() > prepared_->due) finish_prepared();
        some_transaction();
      } catch (const ConnectionLost&) {
        resolve();
      }
    }
    while (prepared_) try {
        finish_prepared();
      } catch (const ConnectionLost&) {
        resolve();
      }
  } catch (const std::exception& error) {
    troubles_.push_back("writer " + std::to_string(number_) + " gave up: " + error.what());
  }
}

void Writer::some_transaction() {
  const int kind = at_most(99);
  const auto counted = [&](const char* name) { ++kinds_[name]; };
  if (kind < 25) {
    counted("single");
    insert(1);
    commit();
  } else if (kind < 37) {
    counted("many rows");
    insert(2 + at_most(30));
    commit();
  } else if (kind < 47) {
    counted("several statements");
    connection().exec("BEGIN");
    in_transaction_ = true;
    for (int i = at_most(4); i >= 0; --i) insert(1 + at_most(2));
    one_in(3) ? rollback() : commit();
  } else if (kind < 57) {
    counted("savepoints");
    with_savepoints();
  } else if (kind < 62) {
    counted("long");
    long_transaction();
  } else if (kind < 69) {
    counted("COPY");
    copy();
  } else if (kind < 81) {
    counted("append");
    append();
  } else if (kind < 87) {
    counted("idempotency key");
    keyed();
  } else if (kind < 94) {
    counted("POST");
    post();
  } else if (kind < 98) {
    if (prepared_) return;
    counted("prepared");
    prepare();
  } else if (shared_.has_broadcast) {
    counted("broadcast()");
    broadcast();
  }
}

std::string Writer::next_mark() {
  ++shared_.written;
  return "w" + std::to_string(number_) + "-" + std::to_string(++marks_);
}

std::string Writer::own_stream() {
  return "own:" + std::to_string(number_) + ":" + std::to_string(at_most(3));
}

// One event for VALUES. `plain`: no failures and no times, for streams that others wait for.
std::string Writer::row(const std::string& stream, bool plain) {
  const std::string mark = next_mark();
  pending_.push_back(mark);
  json payload = {{"m", mark}, {"tell", json::array()}};
  for (int i = 1 + at_most(2); i > 0; --i)
    payload["tell"].push_back((one_in(4) ? "User:" : "Feed:") + std::to_string(at_most(7)));
  if (!plain && one_in(5))
    return "('Jotted'," + (stream.empty() ? "NULL" : sql_quoted(stream)) + "," +
           sql_quoted(payload.dump()) + ",0,now(),NULL)";

  std::string max_attempts = "NULL", execute_at = "now()";
  if (one_in(6)) payload["hush"] = json::array({"Feed:" + std::to_string(at_most(7))});
  if (one_in(20)) payload["nap"] = 1 + at_most(19);
  if (!plain && one_in(14)) payload["fail"] = 1 + at_most(2);
  if (!plain && one_in(12))
    payload["follow"] = {
        {"delay", one_in(2) ? 0.0 : at_most(300) / 1000.0},
        {"stream", one_in(2) ? json() : json("follow:" + std::to_string(at_most(3)))}};
  if (!plain && one_in(60)) {
    payload["bad"] = one_in(3) ? "throw" : one_in(2) ? "table" : "value";
    if (payload["bad"] == "throw") max_attempts = std::to_string(1 + at_most(2));
  }
  std::string name = stream;
  if (!plain && one_in(10)) {
    execute_at =
        "clock_timestamp() + interval '" + std::to_string(20 + at_most(800)) + " milliseconds'";
    name = one_in(2) ? "" : "later:" + std::to_string(at_most(3));
  }
  const int priority = one_in(4) ? at_most(10) - 5 : 0;
  return "('Wrote'," + (name.empty() ? "NULL" : sql_quoted(name)) + "," +
         sql_quoted(payload.dump()) + "," + std::to_string(priority) + "," + execute_at + "," +
         max_attempts + ")";
}

void Writer::insert(int rows) {
  std::string values;
  for (int i = 0; i < rows; ++i)
    values += (i == 0 ? "" : ",") + row(one_in(5) ? std::string() : own_stream());
  committing_ = !in_transaction_;
  connection().exec(std::string("INSERT INTO spillway.events (") + columns + ") VALUES " + values);
}

void Writer::commit() {
  if (in_transaction_) {
    committing_ = true;
    connection().exec("COMMIT");
    in_transaction_ = false;
  }
  settle(Fate::committed);
}

void Writer::rollback() {
  connection().exec("ROLLBACK");
  in_transaction_ = false;
  settle(Fate::rolled_back);
}

void Writer::settle(Fate fate) {
  for (const std::string& mark : pending_) log_[mark] = fate;
  pending_.clear();
  committing_ = false;
}

void Writer::forget_from(std::size_t first) {
  for (std::size_t i = first; i < pending_.size(); ++i) log_[pending_[i]] = Fate::rolled_back;
  pending_.resize(first);
}

void Writer::with_savepoints() {
  connection().exec("BEGIN");
  in_transaction_ = true;
  insert(1);
  connection().exec("SAVEPOINT outside");
  insert(1 + at_most(2));
  const std::size_t kept = pending_.size();
  connection().exec("SAVEPOINT inside");
  insert(1 + at_most(2));
  if (one_in(2)) {
    connection().exec("ROLLBACK TO inside");
    forget_from(kept);
  } else {
    connection().exec("RELEASE inside");
  }
  insert(1);
  if (one_in(3)) {
    connection().exec("ROLLBACK TO outside");
    forget_from(1);
    insert(1);
  }
  one_in(5) ? rollback() : commit();
}

void Writer::long_transaction() {
  connection().exec("BEGIN");
  in_transaction_ = true;
  insert(1 + at_most(2));
  connection().exec("SELECT pg_sleep(" + std::to_string((100 + at_most(1400)) / 1e3) + ")");
  insert(1);
  one_in(4) ? rollback() : commit();
}

void Writer::copy() {
  const std::string path = shared_.folder + "/copy" + std::to_string(number_) + ".txt";
  std::ofstream file(path);
  for (int i = 1 + at_most(30); i > 0; --i) {
    const std::string mark = next_mark();
    pending_.push_back(mark);
    const json payload = {{"m", mark}, {"tell", {"Feed:" + std::to_string(at_most(7))}}};
    file << "Jotted\t" << own_stream() << '\t' << payload.dump() << '\n';
  }
  file.close();
  committing_ = true;
  connection().exec("COPY spillway.events (type, stream, payload) FROM '" + path + "'");
  commit();
}

// As applications do: read where the stream is, decide, append; again when somebody was faster.
void Writer::append() {
  const std::string stream = "shared:" + std::to_string(at_most(2));
  for (int tries = 0; tries < 5; ++tries) {
    const auto version =
        connection()
            .exec("SELECT coalesce(max(stream_version), 0) FROM spillway.events WHERE stream = '" +
                  stream + "' AND stream_version IS NOT NULL")
            .integer(0, 0);
    const std::string mark = next_mark();
    pending_.push_back(mark);
    json payload = {{"m", mark}, {"tell", {"Feed:" + std::to_string(at_most(7))}}};
    if (one_in(10)) payload["fail"] = 1 + at_most(1);
    try {
      committing_ = true;
      connection().exec("SELECT spillway.append(" + sql_quoted(stream) + ", " +
                        std::to_string(version) + ", 'Wrote', " + sql_quoted(payload.dump()) + ")");
      return commit();
    } catch (const SqlError& error) {
      settle(Fate::rolled_back);
      if (error.sqlstate() != "40001") {
        troubles_.push_back(std::string("append: ") + error.what());
        return;
      }
      ++kinds_["append refused"];
    }
  }
}

// A key that is new, or one that was used a moment ago, by anybody.
void Writer::keyed() {
  int number = shared_.keys;
  if (one_in(2) || number == 0)
    number = ++shared_.keys;
  else
    number -= at_most(std::min(number - 1, 3));
  const std::string key = "key " + std::to_string(number);
  const std::string mark = next_mark();
  pending_.push_back(mark);
  const json payload = {{"m", mark}, {"tell", {"User:" + std::to_string(at_most(7))}}};
  committing_ = true;
  const Rows rows = connection().exec(
      "INSERT INTO spillway.events (type, payload, idempotency_key) VALUES ('Wrote', " +
      sql_quoted(payload.dump()) + ", '" + key + "') ON CONFLICT DO NOTHING RETURNING id");
  settle(rows.empty() ? Fate::rolled_back : Fate::committed);
  keys_.push_back(key);  // somebody's event with it is there
}

// Without a stream: what becomes of a request that was not answered nobody can wait for.
void Writer::post() {
  const int port = shared_.any_port();
  if (port == 0) return;
  json events = json::array();
  std::vector<std::string> marks;
  for (int i = at_most(2); i >= 0; --i) {
    marks.push_back(next_mark());
    events.push_back(
        {{"type", "Wrote"},
         {"payload", {{"m", marks.back()}, {"tell", {"User:" + std::to_string(at_most(7))}}}}});
  }
  Fate fate = Fate::unknown;
  try {
    const auto answer = test::http(port, "POST", "/events", events.dump());
    if (answer.status == 202) fate = Fate::committed;
    if (answer.status >= 400 && answer.status < 500)
      troubles_.push_back("POST /events: " + std::to_string(answer.status) + " " + answer.body);
  } catch (const std::exception&) {  // killed before it answered
  }
  if (fate == Fate::unknown) ++in_doubt_;
  for (const std::string& mark : marks) log_[mark] = fate;
}

// Two-phase commit; what is prepared outlives its session, and a crash of the server. Others of
// this writer's transactions come in between.
void Writer::prepare() {
  Prepared one;
  one.name = "p" + std::to_string(number_) + "-" + std::to_string(marks_);
  one.commit = !one_in(3);
  one.due = clock::now() + std::chrono::milliseconds(at_most(600));
  // PostgreSQL prepares no transaction that has notified, and inserts notify while the queue is
  // armed. A worker that died disarmed leaves it like this.
  connection().exec("SELECT setval('spillway.armed', 0)");
  connection().exec("BEGIN");
  in_transaction_ = true;
  std::string values;
  for (int i = at_most(2); i >= 0; --i)
    values += (values.empty() ? "" : ",") + row("own:" + std::to_string(number_) + ":p", true);
  connection().exec(std::string("INSERT INTO spillway.events (") + columns + ") VALUES " + values);
  one.marks = std::exchange(pending_, {});
  // From here on it may be there, whatever becomes of the session.
  const std::string name = one.name;
  prepared_ = std::move(one);
  in_transaction_ = false;
  try {
    connection().exec("PREPARE TRANSACTION '" + name + "'");
  } catch (const SqlError& error) {
    if (error.sqlstate() != "0A000") throw;
    ++kinds_["prepare refused"];  // somebody has armed it in between; finish_prepared() finds
                                  // nothing
  }
}

void Writer::finish_prepared() {
  // In doubt or not: what is listed is there, what is not has been finished or never came to be.
  if (connection()
          .exec("SELECT FROM pg_prepared_xacts WHERE gid = '" + prepared_->name + "'")
          .empty()) {
    const bool there = !connection()
                            .exec("SELECT FROM spillway.events WHERE payload ->> 'm' = " +
                                  sql_quoted(prepared_->marks.front()))
                            .empty();
    for (const std::string& mark : prepared_->marks)
      log_[mark] = there ? Fate::committed : Fate::rolled_back;
    prepared_.reset();
    return;
  }
  connection().exec((prepared_->commit ? "COMMIT" : "ROLLBACK") +
                    (" PREPARED '" + prepared_->name + "'"));
  for (const std::string& mark : prepared_->marks)
    log_[mark] = prepared_->commit ? Fate::committed : Fate::rolled_back;
  prepared_.reset();
}

void Writer::broadcast() {
  const std::string mark = next_mark();
  broadcasts_[mark] = Fate::unknown;
  connection().exec("SELECT spillway.broadcast('Feed:" + std::to_string(at_most(7)) +
                    "', 'said', '{\"m\":\"" + mark + "\"}')");
  broadcasts_[mark] = Fate::committed;
}

PgConnection& Writer::connection() {
  if (!connection_) {
    session_ = "writer" + std::to_string(number_) + "-" + std::to_string(++sessions_);
    PgTarget target = shared_.target;
    target.url += "&application_name=" + session_;
    connection_ = std::make_unique<PgConnection>(target);
  }
  return *connection_;
}

// After a lost connection. What was not about to be committed is gone with the session; for the
// rest one has to look, once nobody can commit it any more.
void Writer::resolve() {
  connection_.reset();
  const bool doubtful = std::exchange(committing_, false);
  in_transaction_ = false;
  // A session that still runs may also be inserting into this writer's streams.
  if (!session_.empty())
    insist([&] {
      PgConnection look(shared_.direct);
      while (!look.exec("SELECT FROM pg_stat_activity WHERE application_name = '" + session_ + "'")
                  .empty())
        std::this_thread::sleep_for(5ms);
      return true;
    });
  if (!pending_.empty()) {
    Fate fate = Fate::rolled_back;
    if (doubtful) {
      ++in_doubt_;
      const bool there = insist([&] {
        PgConnection look(shared_.direct);
        return !look.exec("SELECT FROM spillway.events WHERE payload ->> 'm' = " +
                          sql_quoted(pending_.front()))
                    .empty();
      });
      fate = there ? Fate::committed : Fate::rolled_back;
    }
    settle(fate);
  }
  if (!stopping_) std::this_thread::sleep_for(std::chrono::milliseconds(at_most(20)));
}

}  // namespace spillway::torture
