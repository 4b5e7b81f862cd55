#include "tests/torture/checker.hpp"

#include <set>
#include <utility>

namespace spillway::torture {
namespace {

using test::Database;
using test::Seen;

constexpr std::size_t most_examples = 5;

// Statements that must find nothing, and what it means when they do; the rows are the examples.
struct Rule {
  const char* fault;
  const char* sql;
};

const Rule rules[] = {
    {"left in the queue", "SELECT event_id FROM spillway.queue"},
    {"left waiting", "SELECT event_id, stream, attempts, due_at, error FROM spillway.waiting"},
    {"left scheduled", "SELECT event_id, due_at FROM spillway.scheduled"},
    {"neither done nor dead by design",
     "SELECT s.event_id, s.status, s.last_error, e.payload FROM spillway.event_status s"
     " JOIN spillway.events e ON e.id = s.event_id"
     " WHERE s.status <> 'done' AND NOT (s.status = 'dead' AND e.payload ? 'bad')"},
    {"a good event is dead",
     "SELECT d.event_id, d.attempts, d.error FROM spillway.dead_letters d"
     " JOIN spillway.events e ON e.id = d.event_id WHERE NOT e.payload ? 'bad'"},
    {"a bad event is not dead",
     "SELECT e.id, e.payload FROM spillway.events e WHERE e.payload ? 'bad'"
     " AND NOT EXISTS (SELECT FROM spillway.dead_letters d WHERE d.event_id = e.id)"},
    {"a row is missing or doubled",
     "SELECT e.id, e.payload, count(h.n) FROM spillway.events e"
     " LEFT JOIN handled h ON h.event_id = e.id WHERE e.type IN ('Wrote', 'Jotted')"
     " GROUP BY e.id HAVING count(h.n) <> CASE WHEN e.payload ? 'bad' THEN 0 ELSE 1 END"},
    {"a row that belongs to no event",
     "SELECT h.mark, h.event_id FROM handled h WHERE NOT EXISTS (SELECT FROM spillway.events e"
     " WHERE e.id = h.event_id AND e.payload ->> 'm' = h.mark"
     "   AND e.stream IS NOT DISTINCT FROM h.stream)"},
    {"out of the order of its stream",
     "SELECT * FROM (SELECT h.stream, h.event_id, lag(h.event_id) OVER (PARTITION BY h.stream "
     "ORDER "
     "BY h.n) AS before FROM handled h WHERE h.stream LIKE 'own:%' OR h.stream LIKE 'shared:%') o"
     " WHERE before > event_id"},
    {"out of the order of its versions",
     "SELECT * FROM (SELECT e.stream, e.id, e.stream_version, lag(e.stream_version)"
     "   OVER (PARTITION BY e.stream ORDER BY h.n) AS before"
     "   FROM handled h JOIN spillway.events e ON e.id = h.event_id"
     "   WHERE e.stream_version IS NOT NULL) o"
     " WHERE coalesce(before, 0) + 1 <> stream_version"},
    {"handled before its time",
     "SELECT e.id, e.execute_at, h.at FROM spillway.events e JOIN handled h ON h.event_id = e.id"
     " WHERE h.at < e.execute_at"},
    {"a follow-up is missing, doubled or not its parent's",
     "SELECT e.id, e.payload, count(f.id) FROM spillway.events e"
     " LEFT JOIN spillway.events f ON f.payload ->> 'm' = (e.payload ->> 'm') || '+'"
     "   AND f.causation_id = e.id AND f.correlation_id = e.correlation_id"
     "   AND f.stream IS NOT DISTINCT FROM e.payload -> 'follow' ->> 'stream'"
     " WHERE e.payload ? 'follow' AND NOT e.payload ? 'bad'"
     " GROUP BY e.id HAVING count(f.id) <> 1"},
    {"a follow-up without a parent",
     "SELECT f.id, f.payload FROM spillway.events f WHERE f.payload ->> 'm' LIKE '%+'"
     " AND NOT EXISTS (SELECT FROM spillway.events e WHERE e.id = f.causation_id"
     "   AND e.payload ? 'follow' AND NOT e.payload ? 'bad')"},
    {"two events of one mark",
     "SELECT payload ->> 'm', count(*) FROM spillway.events WHERE payload ? 'm' GROUP BY 1"
     " HAVING count(*) > 1"},
    {"positions are not dense",
     "SELECT * FROM (SELECT position, lag(position) OVER (ORDER BY position) AS before"
     "   FROM spillway.broadcasts) p WHERE position <> coalesce(before, 0) + 1"},
    {"the head is not at the last position",
     "SELECT last FROM spillway.stream_head"
     " WHERE last <> (SELECT coalesce(max(position), 0) FROM spillway.broadcasts)"},
    {"broadcasts of an event are missing, doubled, apart or out of order",
     "SELECT e.id, e.payload, b.channels, b.first, b.last FROM spillway.events e"
     " LEFT JOIN (SELECT event_id, json_agg(channel ORDER BY position)::jsonb AS channels,"
     "     json_agg(data -> 'i' ORDER BY position)::jsonb AS numbers,"
     "     bool_and(event_type = 'said') AS said, array_agg(DISTINCT data ->> 'm') AS marks,"
     "     min(position) AS first, max(position) AS last"
     "   FROM spillway.broadcasts GROUP BY event_id) b ON b.event_id = e.id"
     " WHERE e.type IN ('Wrote', 'Jotted') AND NOT coalesce("
     "   CASE WHEN e.payload ? 'bad' OR jsonb_array_length(e.payload -> 'tell') = 0"
     "        THEN b.event_id IS NULL"
     "        ELSE b.channels = e.payload -> 'tell' AND b.said"
     "         AND b.marks = ARRAY[e.payload ->> 'm']"
     "         AND b.last - b.first + 1 = jsonb_array_length(b.channels)"
     "         AND b.numbers = (SELECT jsonb_agg(i) FROM generate_series(0,"
     "               jsonb_array_length(b.channels) - 1) i) END, false)"},
    {"a broadcast of no event",
     "SELECT position, channel, data FROM spillway.broadcasts b"
     " WHERE NOT EXISTS (SELECT FROM spillway.events e WHERE e.id = b.event_id)"},
};

// What a product that fails would leave behind.
const Rule spoilers[] = {
    {"an effect is lost", "DELETE FROM handled WHERE n = (SELECT max(n) FROM handled)"},
    {"an effect is done twice",
     "INSERT INTO handled (mark, event_id, stream, attempt)"
     " SELECT mark, event_id, stream, attempt FROM handled ORDER BY n LIMIT 1"},
    {"an effect of something rolled back",
     "INSERT INTO handled (mark, event_id, attempt) VALUES ('nobody', 0, 1)"},
    {"two events of a stream change places",
     "WITH s AS (SELECT stream FROM handled WHERE stream LIKE 'own:%' GROUP BY 1"
     "           HAVING count(*) > 1 LIMIT 1),"
     " two AS (SELECT min(n) AS a, max(n) AS b FROM handled JOIN s USING (stream))"
     " UPDATE handled h SET event_id = o.event_id, mark = o.mark FROM two"
     " JOIN handled o ON o.n IN (two.a, two.b) WHERE h.n = two.a + two.b - o.n"},
    {"two versions of a stream change places",
     "WITH s AS (SELECT stream FROM handled WHERE stream LIKE 'shared:%' GROUP BY 1"
     "           HAVING count(*) > 1 LIMIT 1),"
     " two AS (SELECT min(n) AS a, max(n) AS b FROM handled JOIN s USING (stream))"
     " UPDATE handled h SET event_id = o.event_id, mark = o.mark FROM two"
     " JOIN handled o ON o.n IN (two.a, two.b) WHERE h.n = two.a + two.b - o.n"},
    {"a position is missing",
     "DELETE FROM spillway.broadcasts WHERE position = (SELECT max(position) / 2 FROM "
     "spillway.broadcasts)"},
    {"the last position is missing",
     "DELETE FROM spillway.broadcasts WHERE position = (SELECT max(position) FROM "
     "spillway.broadcasts)"},
    {"a broadcast goes to another channel",
     "UPDATE spillway.broadcasts SET channel = 'Feed:99' WHERE position = 1"},
    {"a good event is dead",
     "INSERT INTO spillway.dead_letters (event_id, error, attempts)"
     " SELECT event_id, 'spoilt', 1 FROM handled LIMIT 1"},
    {"an event is left behind",
     "INSERT INTO spillway.scheduled (event_id, lane, due_at)"
     " SELECT event_id, 0, now() FROM handled LIMIT 1"},
    {"an event comes before its time",
     "UPDATE handled SET at = '2001-01-01' WHERE n = (SELECT max(n) FROM handled)"},
};

class Checker {
 public:
  explicit Checker(Database& database) : database_(database) {}

  void rules_hold() {
    for (const Rule& rule : rules) {
      const Rows rows = database_.query("SELECT row_to_json(found)::text FROM (" +
                                        std::string(rule.sql) + ") found");
      for (std::size_t row = 0; row < rows.size(); ++row) note(rule.fault, rows.string(row, 0));
    }
  }

  // The writers' logs against the log of events.
  void logs_agree(const std::vector<std::unique_ptr<Writer>>& writers) {
    std::set<std::string> events, told;
    const Rows rows = database_.query(
        "SELECT payload ->> 'm' FROM spillway.events WHERE type IN ('Wrote', 'Jotted')");
    for (std::size_t row = 0; row < rows.size(); ++row) events.insert(rows.string(row, 0));
    const Rows direct = database_.query(
        "SELECT data ->> 'm', count(*) FROM spillway.broadcasts WHERE data -> 'i' IS NULL GROUP BY "
        "1");
    std::map<std::string, long long> broadcasts;
    for (std::size_t row = 0; row < direct.size(); ++row)
      broadcasts[direct.string(row, 0)] = direct.integer(row, 1);
    for (const auto& writer : writers) {
      for (const std::string& trouble : writer->troubles()) note("a writer was refused", trouble);
      for (const auto& [mark, fate] : writer->log()) {
        const bool there = events.contains(mark);
        told.insert(mark);
        if (fate == Fate::committed && !there) note("a committed event is not in the log", mark);
        if (fate == Fate::rolled_back && there) note("a rolled back event is in the log", mark);
      }
      for (const auto& [mark, fate] : writer->broadcasts()) {
        const auto found = broadcasts.find(mark);
        const long long count = found == broadcasts.end() ? 0 : found->second;
        if (count > 1 || (count == 0 && fate == Fate::committed))
          note("spillway.broadcast() lost or doubled", mark + " " + std::to_string(count));
        if (found != broadcasts.end()) broadcasts.erase(found);
      }
      for (const std::string& key : writer->keys())
        if (!keys().contains(key)) note("an idempotency key without an event", key);
    }
    for (const auto& [mark, count] : broadcasts) note("a broadcast that nobody sent", mark);
    for (const std::string& mark : events)
      if (!mark.ends_with('+') && !told.contains(mark)) note("an event that nobody wrote", mark);
  }

  void subscribers_saw_everything(const std::vector<Audience>& audiences) {
    for (const Audience& audience : audiences) {
      for (const std::string& surprise : audience.subscriber->surprises())
        note("surprise", audience.name + ": " + surprise);
      const std::vector<Seen> all = audience.subscriber->seen();
      std::vector<Seen> durable;
      for (const Seen& frame : all)
        if (frame.event != "hush") durable.push_back(frame);
      const auto expected = wanted(database_, audience);
      const std::string difference = test::first_difference(durable, expected);
      if (!difference.empty())
        note("a stream is not the table", audience.name + ", from position " +
                                              std::to_string(audience.subscriber->started_at()) +
                                              ": " + difference);
      findings.frames += static_cast<long long>(durable.size());
      ephemeral_ones(audience, all);
    }
  }

  // Live only: maybe none, never twice on one connection, never of an event that was not done, and
  // never ahead of the durable ones before it.
  void ephemeral_ones(const Audience& audience, const std::vector<Seen>& all) {
    const auto starts = audience.subscriber->connection_starts();
    std::size_t next = 0;
    std::map<std::string, int> here;
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      while (next < starts.size() && starts[next] <= i) {
        here.clear();
        ++next;
      }
      if (all[i].position < last)
        note("a frame behind its position", audience.name + " " + std::to_string(all[i].position));
      last = all[i].position;
      if (all[i].event != "hush") continue;
      ++findings.ephemeral;
      if (!hushed().contains(all[i].data))
        note("an ephemeral frame of no done event", audience.name + " " + all[i].data);
      if (++here[all[i].data] > 1)
        note("an ephemeral frame twice on one connection", audience.name + " " + all[i].data);
    }
  }

  void count() {
    findings.events = database_.number("SELECT count(*) FROM spillway.events");
    findings.rows = database_.number("SELECT count(*) FROM handled");
    findings.retries = database_.number("SELECT coalesce(sum(attempt - 1), 0) FROM handled");
    findings.dead = database_.number("SELECT count(*) FROM spillway.dead_letters");
    findings.positions = database_.number("SELECT last FROM spillway.stream_head");
  }

  Findings findings;

 private:
  void note(const std::string& fault, const std::string& example) {
    const std::size_t seen = ++counts_[fault];
    if (seen <= most_examples) findings.faults.push_back(fault + ": " + example);
    if (seen == most_examples + 1) findings.faults.push_back(fault + ": and more");
  }

  const std::set<std::string>& keys() {
    if (keys_.empty()) {
      const Rows rows = database_.query(
          "SELECT idempotency_key FROM spillway.events WHERE idempotency_key IS NOT NULL");
      for (std::size_t row = 0; row < rows.size(); ++row) keys_.insert(rows.string(row, 0));
    }
    return keys_;
  }
  const std::set<std::string>& hushed() {
    if (hushed_.empty()) {
      const Rows rows = database_.query(
          "SELECT payload ->> 'm' FROM spillway.events WHERE payload ? 'hush' AND NOT payload ? "
          "'bad'");
      for (std::size_t row = 0; row < rows.size(); ++row) hushed_.insert(rows.string(row, 0));
    }
    return hushed_;
  }

  Database& database_;
  std::map<std::string, std::size_t> counts_;
  std::set<std::string> keys_;
  std::set<std::string> hushed_;
};

}  // namespace

std::vector<std::string> unnoticed(Database& database) {
  std::vector<std::string> missed;
  for (const Rule& spoiler : spoilers) {
    Checker checker(database);
    database.query("BEGIN");
    const std::size_t spoilt = database.query(spoiler.sql).affected();
    checker.rules_hold();
    database.query("ROLLBACK");
    if (spoilt > 0 && checker.findings.faults.empty())
      missed.push_back(std::string("the checker does not notice that ") + spoiler.fault);
  }
  return missed;
}

std::vector<Seen> wanted(Database& database, const Audience& audience) {
  return test::broadcasts_where(
      database, "(" + audience.condition + ") AND position > " +
                    std::to_string(audience.earliest ? 0 : audience.subscriber->started_at()));
}

Findings check(Database& database, const std::vector<std::unique_ptr<Writer>>& writers,
               const std::vector<Audience>& audiences) {
  Checker checker(database);
  checker.rules_hold();
  checker.logs_agree(writers);
  checker.subscribers_saw_everything(audiences);
  checker.count();
  return std::move(checker.findings);
}

}  // namespace spillway::torture
